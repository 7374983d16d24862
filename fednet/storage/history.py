"""A run folder read without holding it: what was asked for, what was committed, how it stands."""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fednet.audit.record import digest_of_header
from fednet.config import RunSettings, run_settings_from
from fednet.errors import BadInput, FednetError, StorageError
from fednet.ranking import Document, is_complete
from fednet.storage.store import DECLINED, NOISE_CHARGED, REVOKED, is_held, reading, settings_in

_AT_ONCE = 20  # rounds: a coordinator's checkpoint waits for whoever reads, and no longer than for these


class Standing(enum.Enum):
    """How a run stands."""

    RUNNING = "running"  # a coordinator holds its folder
    FINISHED = "finished"
    STOPPED = "stopped"  # `coordinator start --resume` goes on


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """One run, as its database says."""

    folder: Path
    run: str
    begun: datetime
    software: str
    settings: RunSettings
    standing: Standing
    rounds: tuple[dict[str, Any], ...]  # each as history.json has it, first to last
    ending: str  # how the last process ended it, in words
    declined: tuple[str, ...] = ()  # `client2: reason`, of each hospital that has not agreed to the run since

    def round(self, number: int) -> dict[str, Any]:
        """Return one round; raises `BadInput` where it was not committed."""
        for document in self.rounds:
            if document["round"] == number:
                return document
        last = self.rounds[-1]["round"] if self.rounds else 0
        raise BadInput(f"--round {number} of {self.folder}", found=f"{last} committed rounds", expected=f"1 to {last}")


def read_history(folder: Path, *, known: Sequence[Document] = ()) -> RunHistory:
    """Return what a run folder holds, changing nothing; raises `BadInput` where no run was begun in it.

    `known`: its first rounds, read before, as far as `fednet.ranking` asks of them; they are not read again, and the
    history has those after them.
    """
    with _opened(folder) as database:
        return _history(database, folder, known)


@dataclass(frozen=True, kw_only=True)
class News:
    """A run as it is by now: its history after the rounds that are known, and what else happened."""

    history: RunHistory
    events: list[dict[str, str]]  # as of `read_events`
    audit: dict[str, Any] | None  # as of `read_audit_head`


def read_news(folder: Path, *, known: Sequence[Document], most_events: int) -> News:
    """Return all of it in one look; raises as `read_history`."""
    with _opened(folder) as database:
        return News(
            history=_history(database, folder, known), events=_events(database, most_events), audit=_head(database)
        )


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Say of `what` that a coordinator has not written it so; raises `StorageError`."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise StorageError(f"{what}: not as a coordinator writes it ({type(exc).__name__}: {exc})") from exc


def _history(database: sqlite3.Connection, folder: Path, known: Sequence[Document]) -> RunHistory:
    begun = database.execute("SELECT id, created_s, settings, software FROM run").fetchone()
    if begun is None:
        raise BadInput(f"run {folder}", found="a run that was never begun")
    documents = list(_rounds(database, after=known[-1]["round"] if known else 0))
    ending, declined = _ending(database), _declined(database)
    run, created_s, settings, software = begun
    found = run_settings_from(json.loads(settings))
    return RunHistory(
        folder=folder,
        run=run,
        begun=datetime.fromtimestamp(created_s, UTC),
        software=software,
        settings=found,
        standing=_standing(folder, [*known, *documents], found, ending),
        rounds=tuple(documents),
        ending=ending,
        declined=declined,
    )


def rounds_after(folder: Path, number: int) -> Iterator[dict[str, Any]]:
    """Yield the rounds that were committed after this one, each as history.json has it, a few at a time in memory."""
    query = "SELECT round, document FROM rounds WHERE round > ? ORDER BY round LIMIT ?"
    with _opened(folder) as database:
        while rows := database.execute(query, (number, _AT_ONCE)).fetchall():
            number = rows[-1][0]
            for _, document in rows:
                yield json.loads(document)


def commit_times(folder: Path) -> dict[int, float]:
    """Return when each round was committed, in seconds since 1970 (UTC)."""
    with _opened(folder) as database:
        return dict(database.execute("SELECT round, committed_s FROM rounds").fetchall())


def read_round(folder: Path, number: int) -> dict[str, Any]:
    """Return one round as history.json has it; raises `BadInput` where it was not committed."""
    with _opened(folder) as database:
        row = database.execute("SELECT document FROM rounds WHERE round = ?", (number,)).fetchone()
        last = database.execute("SELECT COALESCE(MAX(round), 0) FROM rounds").fetchone()[0]
    if row is None:
        raise BadInput(f"round {number} of {folder}", found=f"{last} committed rounds", expected=f"1 to {last}")
    found: dict[str, Any] = json.loads(row[0])
    return found


def read_events(folder: Path, *, most: int) -> list[dict[str, str]]:
    """Return what happened in a run beside its rounds, newest first: `at` (ISO, UTC), `what`, `detail`."""
    with _opened(folder) as database:
        return _events(database, most)


def _events(database: sqlite3.Connection, most: int) -> list[dict[str, str]]:
    if not _has_records(database):
        return []
    rows = database.execute("SELECT at_s, what, detail FROM events ORDER BY rowid DESC LIMIT ?", (most,))
    return [
        {"at": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds"), "what": what, "detail": detail}
        for at_s, what, detail in rows
    ]


def read_audit_head(folder: Path) -> dict[str, Any] | None:
    """Return the last record of a run's chain, `round` and `head` (its digest); None where it has no chain."""
    with _opened(folder) as database:
        return _head(database)


def _head(database: sqlite3.Connection) -> dict[str, Any] | None:
    if not _has_records(database):
        return None
    row = database.execute("SELECT round, header FROM audit ORDER BY round DESC LIMIT 1").fetchone()
    return None if row is None else {"round": row[0], "head": digest_of_header(row[1])}


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / "run.sqlite"
    if not path.is_file():
        raise BadInput(f"run {folder}", found="no run.sqlite there", todo="`cli.py runs list` shows what there is")
    try:
        with reading(folder) as database:
            yield database
    except sqlite3.Error as exc:
        raise StorageError(f"{path}: {exc}") from exc


def _rounds(database: sqlite3.Connection, *, after: int) -> Iterator[dict[str, Any]]:
    for (document,) in database.execute("SELECT document FROM rounds WHERE round > ? ORDER BY round", (after,)):
        yield json.loads(document)


def _has_records(database: sqlite3.Connection) -> bool:
    """Whether the database is of a version that keeps a chain, and events."""
    return int(database.execute("PRAGMA user_version").fetchone()[0]) >= 2


def _ending(database: sqlite3.Connection) -> str:
    if not _has_records(database):
        return "how it ended was not recorded"
    query = "SELECT what, detail FROM events WHERE what NOT IN (?, ?, ?) ORDER BY rowid DESC LIMIT 1"
    row = database.execute(query, (DECLINED, NOISE_CHARGED, REVOKED)).fetchone()
    what, detail = row or ("stopped", "how was not recorded")
    return "its process was killed, or lost power" if what in ("began", "resumed") else f"{what}: {detail}"


def _declined(database: sqlite3.Connection) -> tuple[str, ...]:
    if not _has_records(database):
        return ()
    rows = database.execute(
        "SELECT DISTINCT detail FROM events WHERE what = ? AND NOT EXISTS (SELECT 1 FROM workers "
        "WHERE last_seen_s > at_s AND substr(detail, 1, length(name) + 2) = name || ': ') ORDER BY events.rowid",
        (DECLINED,),
    )
    return tuple(detail for (detail,) in rows)


def stopped_with(settings: RunSettings, runs: Path) -> RunHistory | None:
    """Return the run in `runs` with just these settings that was begun last, if it stopped before its end."""
    found = []
    for folder in runs_under(runs):
        with contextlib.suppress(FednetError):
            if settings_in(folder) == settings:  # before all its rounds are read
                found.append(read_history(folder))
    last = max(found, key=lambda each: each.begun, default=None)
    return last if last is not None and last.standing is Standing.STOPPED else None


def runs_under(folder: Path) -> list[Path]:
    """Return the run folders in `folder`, by name."""
    return sorted(path.parent for path in folder.glob("*/run.sqlite"))


def _standing(folder: Path, rounds: Sequence[Document], settings: RunSettings, ending: str) -> Standing:
    if is_held(folder):
        return Standing.RUNNING
    # noise of a round that was never committed is spent too, and no committed round tells of it
    has_no_privacy_left = bool(settings.client_privacy.epsilon) and ending.startswith("finished")
    return Standing.FINISHED if is_complete(rounds, settings) or has_no_privacy_left else Standing.STOPPED
