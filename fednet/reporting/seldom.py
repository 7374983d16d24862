"""What a service tells again and again, told only so often."""

from __future__ import annotations

import math
import time


class Seldom:
    """Says when something is due that is told at once, and again only after so many seconds."""

    def __init__(self, every_s: float) -> None:
        """`every_s`: more seconds than these lie between two times."""
        self._every_s = every_s
        self._last_s = -math.inf

    def is_due(self) -> bool:
        """Return whether it is; if so, it counts as told now."""
        if time.monotonic() - self._last_s <= self._every_s:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Count the seconds from now."""
        self._last_s = time.monotonic()
