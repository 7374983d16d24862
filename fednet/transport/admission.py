"""Who may hold a connection before having said who it is: counted in all and by address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from fednet.protocol import limits


@dataclass(eq=False)
class Guest:
    """One connection that is not identified yet; `ask_to_leave` makes it go, to make room for another."""

    address: str
    since_s: float
    ask_to_leave: Callable[[], object]


class Admission:
    """Counts connections that are not identified yet, and makes room where a few peers take all of it.

    A newcomer is let in for the oldest of an address that has more of them than its own, or for one that has been there
    for longer than a greeting takes. So neither a flood from a few addresses nor slow handshakes keep others out, and
    many honest peers at once do not push each other out either.
    """

    def __init__(
        self,
        *,
        most: int = limits.MAX_UNAUTHENTICATED,
        most_per_address: int = limits.MAX_UNAUTHENTICATED_PER_ADDRESS,
    ) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._guests: dict[Guest, None] = {}  # in the order of their arrival

    def enter(self, guest: Guest) -> str | None:
        """Count a new connection; return why it is not admitted, or None. Another one may have to leave for it."""
        by_address = Counter(each.address for each in self._guests)
        if by_address[guest.address] >= self._most_per_address:
            if not self._make_room(guest, guest.address, at_once=False):
                return f"{self._most_per_address} unidentified connections from this address already"
        elif len(self._guests) >= self._most:
            crowded, count = by_address.most_common(1)[0]
            fair = count > by_address[guest.address] + 1
            if not self._make_room(guest, crowded if fair else None, at_once=fair):
                return f"{self._most} unidentified connections already"
        self._guests[guest] = None
        return None

    def leave(self, guest: Guest) -> None:
        """The connection has identified itself, or is gone."""
        self._guests.pop(guest, None)

    def _make_room(self, newcomer: Guest, address: str | None, *, at_once: bool) -> bool:
        oldest = next(each for each in self._guests if address in (each.address, None))
        if not at_once and newcomer.since_s - oldest.since_s < limits.GREETING_TAKES_S:
            return False
        self.leave(oldest)
        oldest.ask_to_leave()
        return True
