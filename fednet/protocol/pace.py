"""How fast a peer may talk, and how slowly it may move what it owes; the time comes in with every call."""

from __future__ import annotations

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.frames import Kind


class MessageBudget:
    """Counts the frames of each kind against a rate, with some seconds' worth at once (a token bucket each)."""

    def __init__(self) -> None:
        self._left: dict[Kind, tuple[float, float]] = {}  # (frames still allowed, as of when)

    def take(self, kind: Kind, *, now: float) -> None:
        """Count one frame; raises `RemoteProtocolError` when the peer has sent too many."""
        rate = limits.FRAMES_PER_S.get(kind.name, limits.OTHER_FRAMES_PER_S)
        most = rate * limits.FRAMES_BURST_S
        left, before = self._left.get(kind, (most, now))
        left = min(most, left + (now - before) * rate) - 1
        if left < 0:
            raise RemoteProtocolError(f"more than {rate} {kind.name} frames a second")
        self._left[kind] = (left, now)


class LeastRate:
    """Watches that a peer which owes bytes moves at least `at_least` of them in any `over_s` seconds."""

    def __init__(self, at_least: float, *, over_s: float) -> None:
        self._at_least, self._over_s = at_least, over_s
        self._since: float | None = None
        self._before = 0

    def is_too_slow(self, moved: int, *, owes: bool, now: float) -> bool:
        """Take the count of all bytes moved so far, and whether more are owed; say whether that is too few.

        A peer that owes nothing at any of the looks is not slow: its time begins again.
        """
        if not owes or self._since is None:
            self._since, self._before = (now if owes else None), moved
            return False
        if now - self._since < self._over_s:
            return False
        slow = moved - self._before < self._at_least
        self._since, self._before = now, moved
        return slow
