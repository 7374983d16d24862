"""Telling how far a piece of work is: now and then, and never where it is over at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[int, int], None]
"""Told (how many are done, how many there are) by the thread that works; never where that takes under a second."""

T = TypeVar("T")

_SILENT_FOR_S, _TOLD_EVERY_S = 1.0, 0.2


def untold(done: int, total: int) -> None:
    """Tell nobody."""


def counted(items: Iterable[T], total: int, progress: Progress) -> Iterator[T]:
    """Yield the items, and tell how many there were so far."""
    tell_s = time.monotonic() + _SILENT_FOR_S
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() > tell_s:
            progress(done, total)
            tell_s = time.monotonic() + _TOLD_EVERY_S
