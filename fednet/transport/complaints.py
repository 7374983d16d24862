"""Log lines about peers, bounded: a flood of connections must not fill a disk."""

from __future__ import annotations

import logging

_MOST_A_SECOND = 20


class Complaints:
    """Logs warnings, at most so many a second; how many were left out is said with the next one."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._second = -1
        self._said = self._left_out = 0

    def say(self, text: str, *, now: float) -> None:
        """Log a line, or count it. `now` is in seconds."""
        if int(now) != self._second:
            self._second, self._said = int(now), 0
        if self._said >= _MOST_A_SECOND:
            self._left_out += 1
            return
        if self._left_out:
            text = f"{text} (and {self._left_out} more were dropped before this one)"
        self._said, self._left_out = self._said + 1, 0
        self._log.warning("%s", text)
