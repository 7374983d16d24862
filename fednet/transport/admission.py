"""Who may hold a connection before having said who it is: counted in all and by address."""

from __future__ import annotations

from collections import Counter

from fednet.protocol import limits


class Admission:
    """Counts connections that are not identified yet."""

    def __init__(
        self,
        *,
        most: int = limits.MAX_UNAUTHENTICATED,
        most_per_address: int = limits.MAX_UNAUTHENTICATED_PER_ADDRESS,
    ) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> str | None:
        """Count a new connection from `address`; return why it is not admitted, or None."""
        if self._by_address[address] >= self._most_per_address:
            return f"{self._most_per_address} unidentified connections from this address already"
        if self._by_address.total() >= self._most:
            return f"{self._most} unidentified connections already"
        self._by_address[address] += 1
        return None

    def leave(self, address: str) -> None:
        """The connection has identified itself, or is gone."""
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]
