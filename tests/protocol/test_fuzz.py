import pytest

from tests.protocol.fuzz import run


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_damaged_frames_give_messages_or_a_remote_protocol_error(seed: int) -> None:
    fuzzer = run(10_000, seed=seed)
    assert fuzzer.messages > 300, "some damage must be harmless, or nothing behind the first check is tried"
    assert fuzzer.refused > 3000
