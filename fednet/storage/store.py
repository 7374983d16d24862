"""The run store: one SQLite database per run; a round exists when its row is committed, not before."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fednet.config import RunId, RunSettings, run_settings_from
from fednet.errors import BadInput, StorageError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE run (
    id TEXT NOT NULL, created_s REAL NOT NULL, settings TEXT NOT NULL, manifest TEXT NOT NULL, software TEXT NOT NULL
);
CREATE TABLE rounds (
    round INTEGER PRIMARY KEY,
    committed_s REAL NOT NULL,      -- seconds since 1970, UTC
    checkpoint TEXT NOT NULL,       -- file name beneath checkpoints/
    model_sha256 TEXT NOT NULL,     -- of the flat buffer after this round
    document TEXT NOT NULL          -- metrics, verdicts, seconds: what history.json shows of this round
);
CREATE TABLE updates (
    round INTEGER NOT NULL, worker TEXT NOT NULL,
    sha256 TEXT NOT NULL, samples INTEGER NOT NULL, stored_s REAL NOT NULL,
    PRIMARY KEY (round, worker)     -- (run, round, worker) counts once, however often a connection breaks
);
"""


@dataclass(frozen=True, kw_only=True)
class CommittedRound:
    """One finished round as it was stored."""

    round: int
    checkpoint: str
    model_sha256: str
    document: dict[str, Any]


class RunStore:
    """Everything a run must remember, in `FOLDER/run.sqlite`; held by one coordinator at a time.

    Raises `BadInput` when another coordinator holds the run, `StorageError` when the database cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            self._database = sqlite3.connect(folder / "run.sqlite", isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except sqlite3.Error as exc:
            os.close(self._lock)
            raise StorageError(f"{folder / 'run.sqlite'}: {exc}") from exc

    def begin(self, run: RunId, settings: RunSettings, *, manifest: str, software: str) -> None:
        """Record a new run."""
        document = json.dumps(settings.to_dict())
        self._write("INSERT INTO run VALUES (?, ?, ?, ?, ?)", run, time.time(), document, manifest, software)

    def run(self) -> tuple[RunId, RunSettings, str]:
        """Return (run id, settings, manifest digest) of the run that was begun here."""
        row = self._row("SELECT id, settings, manifest FROM run")
        if row is None:
            raise BadInput(f"{self.folder}", found="no run", todo="start one without --resume")
        return RunId(row[0]), run_settings_from(json.loads(row[1])), row[2]

    def update_stored(self, round_number: int, worker: str, *, sha256: str, samples: int) -> None:
        """Record that an update is durable; a second one of the same worker and round changes nothing."""
        self._write(
            "INSERT OR IGNORE INTO updates VALUES (?, ?, ?, ?, ?)", round_number, worker, sha256, samples, time.time()
        )

    def commit(self, committed: CommittedRound) -> None:
        """Make a round part of the run: the one moment from which it exists."""
        self._write(
            "INSERT INTO rounds VALUES (?, ?, ?, ?, ?)",
            committed.round,
            time.time(),
            committed.checkpoint,
            committed.model_sha256,
            json.dumps(committed.document),
        )

    def rounds(self) -> list[CommittedRound]:
        """Return all committed rounds, first to last."""
        rows = self._database.execute("SELECT round, checkpoint, model_sha256, document FROM rounds ORDER BY round")
        return [
            CommittedRound(round=number, checkpoint=checkpoint, model_sha256=digest, document=json.loads(document))
            for number, checkpoint, digest, document in rows
        ]

    def close(self) -> None:
        """Close the database and let another coordinator take the run."""
        self._database.close()
        os.close(self._lock)

    def _migrate(self) -> None:
        version = self._row("PRAGMA user_version")
        found = version[0] if version else 0
        if found == 0:
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif found != SCHEMA_VERSION:
            raise BadInput(
                f"{self.folder / 'run.sqlite'}",
                found=f"schema version {found}",
                expected=str(SCHEMA_VERSION),
                todo="use the FedNet version that began this run",
            )

    def _row(self, query: str) -> Any:
        return self._database.execute(query).fetchone()

    def _write(self, statement: str, *values: object) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.Error as exc:
            raise StorageError(f"{self.folder / 'run.sqlite'}: {exc}") from exc


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a run's database to read it, whoever holds the run; nothing can be changed."""
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        yield database


def has_run(folder: Path) -> bool:
    """Whether a run was begun in `folder`; a database that was made and never begun is none. Changes nothing."""
    return _begun_with(folder) is not None


def settings_in(folder: Path) -> RunSettings | None:
    """Return the settings of the run in `folder`, or None where there is none. Changes nothing, and needs no lock."""
    found = _begun_with(folder)
    return None if found is None else run_settings_from(json.loads(found))


def _begun_with(folder: Path) -> str | None:
    path = folder / "run.sqlite"
    if not path.exists():
        return None
    try:
        with reading(path) as database:
            row = database.execute("SELECT settings FROM run").fetchone()
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as exc:
        raise StorageError(f"{path}: {exc}") from exc
    return None if row is None else str(row[0])


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise BadInput(
            f"run {folder}", found="another coordinator at work in it", todo="choose another --run-dir"
        ) from exc
    return descriptor
