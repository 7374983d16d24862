"""Log lines about peers, bounded: a flood of connections must not fill a disk, and no offender must stay unnamed."""

from __future__ import annotations

import logging
from collections import Counter

_MOST_A_SECOND = 50
_MOST_OF_ONE = 5  # address, a second
_MOST_NAMED = 10


class Complaints:
    """Logs warnings, at most so many a second; whom the others were about is said in the next second."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._second = -1
        self._said: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def say(self, address: str, text: str, *, now: float) -> None:
        """Log a line about a peer at `address`, or count it. `now` is in seconds."""
        if int(now) != self._second:
            self.flush()
            self._second = int(now)
            self._said.clear()
        if self._said[address] >= _MOST_OF_ONE or self._said.total() >= _MOST_A_SECOND:
            self._left_out[address] += 1
            return
        self._said[address] += 1
        self._log.warning("%s", text)

    def flush(self) -> None:
        """Say whom the lines that were left out were about."""
        if self._left_out:
            named = ", ".join(f"{address} {count} times" for address, count in self._left_out.most_common(_MOST_NAMED))
            others = len(self._left_out) - _MOST_NAMED
            self._log.warning("more were dropped: %s%s", named, f", and {others} more" if others > 0 else "")
            self._left_out.clear()
