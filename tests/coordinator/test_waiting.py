from fednet.coordinator.waiting import some
from fednet.protocol.frames import HEADER_BYTES
from fednet.protocol.messages import RunStatus, decode_message


def test_a_thousand_workers_are_not_all_named() -> None:
    assert some(["a", "b"], ", ") == "a, b"
    named = some([f"client{number}" for number in range(1000)], ", ")
    assert named.endswith("client7, and 992 more")


def test_a_text_that_is_too_long_for_a_peer_is_cut() -> None:
    frame = RunStatus(text="x" * 5000).encode()
    assert decode_message(RunStatus.kind, frame[HEADER_BYTES:]) == RunStatus(text="x" * 4096)
