import logging

import pytest

from fednet.protocol import limits
from fednet.transport.admission import Admission, Guest
from fednet.transport.complaints import Complaints


class Lobby:
    """An admission, and who was asked to leave it."""

    def __init__(self, *, most: int, most_per_address: int) -> None:
        self.admission = Admission(most=most, most_per_address=most_per_address)
        self.asked: list[str] = []
        self.guests: dict[str, Guest] = {}

    def enter(self, name: str, *, at: float = 0.0) -> str | None:
        """Let `a1` in from the address `a`."""
        guest = Guest(name[0], at, lambda: self.asked.append(name))
        self.guests[name] = guest
        return self.admission.enter(guest)


def test_connections_are_bounded_by_address_and_in_all() -> None:
    lobby = Lobby(most=3, most_per_address=2)
    assert [lobby.enter("a1"), lobby.enter("a2")] == [None, None]
    assert "this address" in str(lobby.enter("a3"))
    assert lobby.enter("b1") is None
    assert "3 unidentified" in str(lobby.enter("b2"))
    assert lobby.asked == []


def test_a_place_is_free_again_after_leaving() -> None:
    lobby = Lobby(most=1, most_per_address=1)
    lobby.enter("a1")
    lobby.admission.leave(lobby.guests["a1"])
    assert lobby.enter("a2") is None
    assert lobby.asked == []


def test_a_crowd_from_one_address_makes_room_for_another_at_once() -> None:
    lobby = Lobby(most=4, most_per_address=4)
    for name in ("a1", "a2", "a3", "b1"):
        lobby.enter(name)
    assert lobby.enter("c1") is None
    assert lobby.asked == ["a1"]


def test_one_that_is_slower_than_a_greeting_makes_room_for_any() -> None:
    lobby = Lobby(most=2, most_per_address=2)
    lobby.enter("a1", at=10.0)
    lobby.enter("a2", at=10.1)
    assert lobby.enter("a3", at=10.0 + limits.GREETING_TAKES_S) is None
    assert lobby.enter("a4", at=10.0 + limits.GREETING_TAKES_S) is not None
    assert lobby.enter("b1", at=10.2 + limits.GREETING_TAKES_S) is None
    assert lobby.asked == ["a1", "a2"]


def test_complaints_are_bounded_and_nobody_stays_unnamed(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("test"))
    for number in range(100):
        complaints.say("192.0.2.1", f"192.0.2.1:{number} dropped", now=7.5)
    complaints.say("192.0.2.2", "192.0.2.2:5 dropped", now=7.9)
    assert len(caplog.records) == 6
    complaints.say("192.0.2.3", "192.0.2.3:6 dropped", now=8.0)
    assert caplog.messages[-2:] == ["more were dropped: 192.0.2.1 95 times", "192.0.2.3:6 dropped"]
    for number in range(100):
        complaints.say(f"198.51.100.{number}", "dropped", now=9.0)
    assert len(caplog.records) == 8 + 50
    complaints.flush()
    assert "198.51.100.50 1 times" in caplog.messages[-1]
    assert caplog.messages[-1].endswith("and 40 more")
