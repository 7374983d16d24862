"""How far the reading or writing of scans is: a bar where stderr is a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fednet.reporting.terminal import can_redraw

_LINE_EVERY_S = 5.0

Notice = Callable[[str], None]
Told = Callable[[int, int], None]
"""Told (how many are done, how many there are)."""


@contextlib.contextmanager
def reading_shown(folder: str, *, notice: Notice, quiet: bool = False) -> Iterator[Told]:
    """Yield what is to be told of the reading of scans (`progress_shown`)."""
    with progress_shown(f"reading {folder}", "scans", notice=notice, quiet=quiet) as told:
        yield told


@contextlib.contextmanager
def progress_shown(doing: str, of: str, *, notice: Notice, quiet: bool = False) -> Iterator[Told]:
    """Yield what is to be told of a piece of work; nothing is shown before it is, nor of torchrun's further processes.

    `of`: what is counted, in the plural. `quiet`: no bar; the lines go to `notice` in any case.
    """
    console = Console(stderr=True)
    if can_redraw(console) and not quiet and os.environ.get("RANK", "0") == "0":
        with contextlib.closing(_Bar(doing, console)) as bar:
            yield bar.show
    else:
        yield _Lines(doing, of, notice).show


class _Bar:
    """A bar that is gone when it is closed."""

    def __init__(self, doing: str, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task(escape(doing), total=None)

    def show(self, done: int, total: int) -> None:
        self._progress.start()
        self._progress.update(self._task, completed=done, total=total)

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    """A line every few seconds."""

    def __init__(self, doing: str, of: str, notice: Notice) -> None:
        self._doing, self._of, self._notice = doing, of, notice
        self._next_s = 0.0

    def show(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_EVERY_S
            self._notice(f"{self._doing}: {done} of {total} {self._of}")
