"""Ends a process with the one that started it and holds the other end of its standard input."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import TextIO


def when_parent_ends(leave: Callable[[], None]) -> None:
    """Call `leave`, in a thread, once standard input is closed: the parent has ended, however it did."""
    threading.Thread(target=_wait, args=(sys.stdin, leave), daemon=True).start()


def _wait(stdin: TextIO | None, leave: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while stdin is not None and os.read(stdin.fileno(), 1024):
            pass
    leave()
