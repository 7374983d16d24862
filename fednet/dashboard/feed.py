"""A run folder followed while its run goes on: a committed round is read once, nothing where nothing has changed."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fednet.errors import BadInput, StorageError
from fednet.reporting.run_view import MOST_EVENTS, STALLED_AFTER_S, heard_of, overview, view_of
from fednet.reporting.status import STATUS_NAME, live_status
from fednet.reporting.tally import Document, Tally
from fednet.storage.history import (
    RunHistory,
    Standing,
    read_news,
    read_round,
    readable,
    rounds_after,
)
from fednet.storage.store import is_held, settings_in

_SILENCE_TOLD_EVERY_S = 5
_DATABASE = ("run.sqlite", "run.sqlite-wal")

Stamp = tuple[Any, ...]
"""What tells that a file has changed."""


def _now() -> datetime:
    return datetime.now(UTC)


class Feed:
    """One run folder, for however many who look at it; any thread may call."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime] = _now) -> None:
        self._folder = folder
        self._clock = clock
        self._looking = threading.Lock()
        self._stamps: tuple[Stamp, Stamp, int] | None = None
        self._history: RunHistory | None = None
        self._tally = Tally(())
        self._events: list[dict[str, str]] = []
        self._audit: dict[str, Any] | None = None
        self._heard: datetime | None = None
        self._shown: dict[str, Any] = {}
        self._text = ""
        self._is_asked = False  # for rounds: nothing is drawn for who reads the overview alone
        self._latest: tuple[int, str] | None = None  # the round that every page asks for next, and what it is answered

    def look(self) -> str:
        """Return the run's overview as JSON on one line, the same object where nothing has changed.

        Raises `BadInput` where no run is there, or none any more; `StorageError` where it cannot be read.
        """
        with self._looking:
            self._look()
            return self._text

    def overview(self) -> dict[str, Any]:
        """Return the run's overview, as `look`; it must not be changed."""
        with self._looking:
            self._look()
            return self._shown

    def verdicts(self, *, after: int = 0) -> dict[str, Any]:
        """Return who was selected or rejected in each round but the first `after`, as `look`."""
        with self._looking:
            self._look()
            return self._tally.verdicts(after=after)

    def round(self, number: int) -> str:
        """Return one round with all that is drawn of it, as JSON; raises as `look`, `BadInput` for an unknown one."""
        self._is_asked, latest = True, self._latest
        if latest is not None and latest[0] == number:
            return latest[1]
        with readable(f"round {number} of {self._folder}"):
            return encoded(view_of(read_round(self._folder, number)))

    def _look(self) -> None:
        with readable(f"run {self._folder}"):
            self._renew()

    def _renew(self) -> None:
        files = [_stamp(self._folder / name) for name in _DATABASE]
        if files[0] == ():
            raise BadInput(f"run {self._folder}", found="no run.sqlite there", todo="wait for it, or check --run-dir")
        database = (*files, is_held(self._folder))
        status = _stamp(self._folder / STATUS_NAME)
        stamps = database, status, self._silence()
        if stamps == self._stamps:
            return
        if self._history is None or self._stamps is None or self._stamps[0] != database:
            self._read()
        live = live_status(self._folder)
        assert self._history is not None, "it was read"
        self._shown = overview(
            self._history, live, now=self._clock(), events=self._events, audit=self._audit, tally=self._tally
        )
        self._text = encoded(self._shown)
        is_running = self._history.standing is Standing.RUNNING
        self._heard = heard_of(self._history, live, self._events)[1] if is_running else None
        self._stamps = database, status, self._silence()

    def _read(self) -> None:
        before, self._history = self._history, None  # what fails half-way is read anew
        if before is None:
            settings = settings_in(self._folder)
            if settings is None:
                raise BadInput(f"run {self._folder}", found="a run that has not begun", todo="wait for it")
            self._tally, self._latest = Tally(settings.classes), None
            self._add(rounds_after(self._folder, 0))  # of a long run only one at a time is in memory
        news = read_news(self._folder, known=self._tally.ranked, most_events=MOST_EVENTS)
        if before is not None and before.run != news.history.run:
            return self._read()  # another run in its place
        self._add(news.history.rounds)
        self._history, self._events, self._audit = news.history, news.events, news.audit
        return None

    def _add(self, documents: Iterable[Document]) -> None:
        last = None
        for last in documents:
            self._tally.add(last)
        if last is None or not self._is_asked:
            return
        with contextlib.suppress(StorageError), readable("the round"):  # whoever asks for it is told what is wrong
            self._latest = last["round"], encoded(view_of(last))

    def _silence(self) -> int:
        """Return how often it is time to say that the coordinator is silent."""
        if self._heard is None:
            return 0
        silent_s = (self._clock() - self._heard).total_seconds()
        return int(silent_s // _SILENCE_TOLD_EVERY_S) if silent_s > STALLED_AFTER_S else 0


def encoded(document: Any) -> str:
    """Return JSON on one line, in ASCII; a number that is none, of a model that has diverged, is null."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), separators=(",", ":"), allow_nan=False)


def _finite(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _finite(each) for name, each in document.items()}
    if isinstance(document, list | tuple):
        return [_finite(each) for each in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read ({exc.strerror})") from exc
    return found.st_ino, found.st_mtime_ns, found.st_size
