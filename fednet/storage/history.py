"""A run folder read without holding it: what was asked for, what was committed, how it stands."""

from __future__ import annotations

import contextlib
import enum
import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fednet.config import RunSettings, run_settings_from
from fednet.errors import BadInput, FednetError, StorageError
from fednet.ranking import is_complete
from fednet.storage.store import DECLINED, NOISE_CHARGED, REVOKED, is_held, reading, settings_in


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


def read_history(folder: Path) -> RunHistory:
    """Return what a run folder holds, changing nothing; raises `BadInput` where no run was begun in it."""
    path = folder / "run.sqlite"
    if not path.is_file():
        raise BadInput(f"run {folder}", found="no run.sqlite there", todo="`cli.py runs list` shows what there is")
    try:
        with reading(folder) as database:
            begun = database.execute("SELECT id, created_s, settings, software FROM run").fetchone()
            if begun is None:
                raise BadInput(f"run {folder}", found="a run that was never begun")
            rounds = database.execute("SELECT document FROM rounds ORDER BY round").fetchall()
            ending, declined = _ending(database), _declined(database)
    except sqlite3.Error as exc:
        raise StorageError(f"{path}: {exc}") from exc
    run, created_s, settings, software = begun
    found = run_settings_from(json.loads(settings))
    documents = [json.loads(document) for (document,) in rounds]
    return RunHistory(
        folder=folder,
        run=run,
        begun=datetime.fromtimestamp(created_s, UTC),
        software=software,
        settings=found,
        standing=_standing(folder, documents, found, ending),
        rounds=tuple(documents),
        ending=ending,
        declined=declined,
    )


def _ending(database: sqlite3.Connection) -> str:
    if database.execute("PRAGMA user_version").fetchone()[0] < 2:
        return "how it ended was not recorded"
    query = "SELECT what, detail FROM events WHERE what NOT IN (?, ?, ?) ORDER BY rowid DESC LIMIT 1"
    row = database.execute(query, (DECLINED, NOISE_CHARGED, REVOKED)).fetchone()
    what, detail = row or ("stopped", "how was not recorded")
    return "its process was killed, or lost power" if what in ("began", "resumed") else f"{what}: {detail}"


def _declined(database: sqlite3.Connection) -> tuple[str, ...]:
    if database.execute("PRAGMA user_version").fetchone()[0] < 2:
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


def _standing(folder: Path, rounds: list[dict[str, Any]], settings: RunSettings, ending: str) -> Standing:
    if is_held(folder):
        return Standing.RUNNING
    # noise of a round that was never committed is spent too, and no committed round tells of it
    has_no_privacy_left = bool(settings.client_privacy.epsilon) and ending.startswith("finished")
    return Standing.FINISHED if is_complete(rounds, settings) or has_no_privacy_left else Standing.STOPPED
