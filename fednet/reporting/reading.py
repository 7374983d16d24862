"""How far the reading of a folder of scans is: a bar where stderr is a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINE_EVERY_S = 5.0

Notice = Callable[[str], None]
Told = Callable[[int, int], None]
"""Told (scans read, scans in all)."""


@contextlib.contextmanager
def reading_shown(folder: str, *, notice: Notice) -> Iterator[Told]:
    """Yield what is to be told of the reading; nothing is shown before it is, nor of torchrun's further processes."""
    console = Console(stderr=True)
    if console.is_interactive and os.environ.get("RANK", "0") == "0":
        with contextlib.closing(_Bar(folder, console)) as bar:
            yield bar.show
    else:
        yield _Lines(folder, notice).show


class _Bar:
    """A bar that is gone when it is closed."""

    def __init__(self, folder: str, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(f"reading {escape(folder)}", total=None)

    def show(self, done: int, total: int) -> None:
        self._progress.start()
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """A line every few seconds."""

    def __init__(self, folder: str, notice: Notice) -> None:
        self._folder, self._notice = folder, notice
        self._next_s = 0.0

    def show(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_EVERY_S
            self._notice(f"reading {self._folder}: {done} of {total} scans")
