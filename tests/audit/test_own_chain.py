from dataclasses import replace
from typing import Any

import pytest

from fednet.audit.own_chain import OwnChain
from fednet.errors import AuditError
from tests.audit.records import RUN, chain, check, digest, headers, record, shown

UPDATES = {"a": digest("of a"), "b": digest("of b"), "c": digest("of c")}
RECORDS = chain(UPDATES, UPDATES, UPDATES, UPDATES)


def own(known: int = 0) -> OwnChain:
    """The chain of worker b, who has seen the records of the first `known` rounds."""
    found = OwnChain(run=RUN, worker="b", check_signature=check)
    if known:
        found.restore(RECORDS[known].header)
    return found


def test_a_chain_that_grows_is_taken() -> None:
    mine = own()
    for each in RECORDS[1:]:
        assert not mine.is_known(shown(each, 1))
        assert mine.missing_after(shown(each, 1)) is None
        assert mine.take(shown(each, 1), sent=UPDATES["b"])["samples"] == 7
    assert mine.round == 4


def test_a_known_record_is_known() -> None:
    mine = own(3)
    assert mine.is_known(shown(RECORDS[3], 1))


def test_history_that_was_rewritten_is_seen() -> None:
    for forged in (record(3, RECORDS[2], UPDATES, note="other"), RECORDS[2]):
        with pytest.raises(AuditError, match="shows another record than before"):
            own(3).is_known(shown(forged, 1))


def test_a_record_that_does_not_follow_the_known_one_is_seen() -> None:
    with pytest.raises(AuditError, match="round 3: previous is not"):
        own(2).take(shown(record(3, RECORDS[1], UPDATES), 1), sent=None)


def test_who_was_away_asks_for_what_lies_between() -> None:
    mine = own(1)
    assert mine.missing_after(shown(RECORDS[4], 1)) == 1
    mine.extend(headers(RECORDS[2:4]))
    assert mine.missing_after(shown(RECORDS[4], 1)) is None
    mine.take(shown(RECORDS[4], 1), sent=UPDATES["b"])


def test_a_gap_that_is_filled_with_something_else_is_seen() -> None:
    mine = own(1)
    mine.extend([RECORDS[2].header, record(3, RECORDS[2], UPDATES, note="other").header])
    with pytest.raises(AuditError, match="round 4: previous"):
        mine.take(shown(RECORDS[4], 1), sent=None)
    with pytest.raises(AuditError, match="after round 1 was expected"):
        own(1).extend([RECORDS[3].header])


def test_an_update_that_is_not_the_one_sent_is_seen() -> None:
    with pytest.raises(AuditError, match=r"round 1: update_sha256 is .*, acknowledged was"):
        own().take(shown(RECORDS[1], 1), sent=digest("another"))


def test_an_acknowledged_update_that_was_left_out_is_seen() -> None:
    with pytest.raises(AuditError, match="no update of this hospital"):
        own().take(shown(RECORDS[1], None), sent=UPDATES["b"])


def test_another_hospitals_entry_is_not_taken_for_the_own() -> None:
    with pytest.raises(AuditError, match="entry is another worker's"):
        own().take(shown(RECORDS[1], 0), sent=None)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"signature": b"x"}, "signature"),
        ({"entry": RECORDS[1].entries[1].replace(b"7", b"8")}, "entry is not part of the signed record"),
        ({"path": b""}, "entry is not part"),
        ({"entry": b"\xff"}, "entry is no JSON"),
        ({"entry": RECORDS[1].entries[1] + b" "}, "not in its canonical form"),
    ],
)
def test_what_was_tampered_with_is_named(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(AuditError, match=complaint):
        own().take(replace(shown(RECORDS[1], 1), **changed), sent=None)


def test_a_record_of_another_run_is_refused() -> None:
    with pytest.raises(AuditError, match="run is other"):
        own().take(shown(record(1, None, UPDATES, run="other"), 1), sent=None)
