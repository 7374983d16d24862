from fednet.reporting.reporter import Together, Transfer
from tests.federation import Notes
from tests.reporting.rounds import DOCUMENT


def test_several_reporters_are_told_the_same() -> None:
    first, second = Notes(), Notes()
    both = Together(first, second)
    both.notice("listening")
    both.status("round 2 of 3", [])
    both.round_committed(DOCUMENT)
    both.close()
    assert first.notices == second.notices == ["listening"]
    assert first.documents == second.documents == [DOCUMENT]


def test_a_transfer_is_a_sentence() -> None:
    update = Transfer(is_update=True, done=12_340_000, total=44_700_000)
    assert update.sentence() == "12.3 of 44.7 MB of the update are sent"
    assert Transfer(is_update=False, done=0, total=1_000_000).sentence() == "0.0 of 1.0 MB of the model are here"
    assert Transfer(is_update=True, done=0, total=0).fraction == 0.0
