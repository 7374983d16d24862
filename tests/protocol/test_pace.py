import pytest

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.frames import Kind
from fednet.protocol.pace import LeastRate, MessageBudget


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    budget = MessageBudget()
    for _ in range(limits.OTHER_FRAMES_PER_S * limits.FRAMES_BURST_S):
        budget.take(Kind.PROGRESS, now=100.0)
    with pytest.raises(RemoteProtocolError, match="more than 50 PROGRESS frames a second"):
        budget.take(Kind.PROGRESS, now=100.01)
    budget.take(Kind.HEARTBEAT, now=100.01)  # each kind for itself
    for second in range(101, 104):
        for _ in range(limits.OTHER_FRAMES_PER_S):
            budget.take(Kind.PROGRESS, now=float(second))


def test_every_kind_in_the_table_exists() -> None:
    assert set(limits.FRAMES_PER_S) <= set(Kind.__members__)


def test_a_peer_that_owes_bytes_must_move_them() -> None:
    watch = LeastRate(100, over_s=10.0)
    assert not watch.is_too_slow(0, owes=True, now=0.0)
    assert not watch.is_too_slow(50, owes=True, now=9.0)
    assert not watch.is_too_slow(100, owes=True, now=10.0)
    assert not watch.is_too_slow(150, owes=True, now=19.0)
    assert watch.is_too_slow(199, owes=True, now=20.0)


def test_a_peer_that_owed_nothing_in_between_is_not_slow() -> None:
    watch = LeastRate(100, over_s=10.0)
    assert not watch.is_too_slow(0, owes=True, now=0.0)
    assert not watch.is_too_slow(0, owes=False, now=9.0)
    assert not watch.is_too_slow(0, owes=True, now=11.0)
    assert not watch.is_too_slow(0, owes=True, now=20.0)
    assert watch.is_too_slow(0, owes=True, now=21.0)
