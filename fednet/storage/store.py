"""The run store: one SQLite database per run; a round exists when its row is committed, not before."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fednet.audit.record import SignedRecord, document_text
from fednet.config import RunId, RunSettings, WorkerName, run_settings_from
from fednet.errors import BadInput, DiskFull, StorageError, SyncFailed
from fednet.storage import disk
from fednet.storage.disk import storage_error

DECLINED = "declined"  # an event that ends nothing: a hospital does not agree to the run
REVOKED = "revoked"  # likewise: a worker's certificate was revoked while it took part
NOISE_CHARGED = "noise charged"  # an event that ends nothing: client-level privacy is spent on a round
_WAL = "run.sqlite-wal"
_READER_HAS_LOOKED_S = 0.5  # `is_held` holds the lock for a moment; another coordinator holds it for days
_BEGINNING = """
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
_NOTHING_LOST = """
ALTER TABLE updates ADD COLUMN nbytes INTEGER NOT NULL DEFAULT 0;   -- of the spooled file, as the update travelled
ALTER TABLE updates ADD COLUMN train_s REAL NOT NULL DEFAULT 0;
ALTER TABLE updates ADD COLUMN loss REAL NOT NULL DEFAULT 0;
ALTER TABLE updates ADD COLUMN arrived_s REAL NOT NULL DEFAULT 0;   -- after the round began
ALTER TABLE updates ADD COLUMN fingerprint TEXT NOT NULL DEFAULT ''; -- of the worker's certificate
ALTER TABLE updates ADD COLUMN fate TEXT;                           -- selected or rejected, from the commit on
ALTER TABLE updates ADD COLUMN reason TEXT;
CREATE TABLE workers (
    name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, samples INTEGER NOT NULL, device TEXT NOT NULL,
    first_seen_s REAL NOT NULL, last_seen_s REAL NOT NULL
);
CREATE TABLE begun (round INTEGER PRIMARY KEY, cohort TEXT NOT NULL, began_s REAL NOT NULL);
CREATE TABLE audit (
    round INTEGER PRIMARY KEY,      -- 0: the run's beginning
    header BLOB NOT NULL, signature BLOB NOT NULL, certificate BLOB NOT NULL,
    entries TEXT NOT NULL           -- a JSON list of texts, each the JSON that was hashed
);
CREATE TABLE events (
    at_s REAL NOT NULL,
    what TEXT NOT NULL,             -- began or resumed; finished, parked or failed, unless the process was killed
                                    -- and in between: declined, revoked, noise charged
    detail TEXT NOT NULL
);
"""
_SITES_JUDGE = """
ALTER TABLE updates ADD COLUMN confusion TEXT NOT NULL DEFAULT '[]'; -- JSON: what the site told of the round's model
"""
_SITES_KEEP_PRIVACY = """
ALTER TABLE updates ADD COLUMN epsilon REAL NOT NULL DEFAULT 0; -- of differential privacy, as its site says; 0: none
ALTER TABLE updates ADD COLUMN delta REAL NOT NULL DEFAULT 0;
"""
_MIGRATIONS = (_BEGINNING, _NOTHING_LOST, _SITES_JUDGE, _SITES_KEEP_PRIVACY)
"""What leads from each version to the next; each is one transaction."""
SCHEMA_VERSION = len(_MIGRATIONS)


@dataclass(frozen=True, kw_only=True)
class CommittedRound:
    """One finished round as it was stored."""

    round: int
    checkpoint: str
    model_sha256: str
    document: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StoredUpdate:
    """What the store remembers of a durable update."""

    worker: WorkerName
    sha256: str  # of the spooled file, as the update travelled
    nbytes: int
    samples: int
    train_s: float
    loss: float
    arrived_s: float  # after the round began
    fingerprint: str  # SHA-256 of the worker's certificate, hex
    confusion: list[int] = field(default_factory=list)  # as UPDATE_OFFERED had it
    epsilon: float = 0.0  # of differential privacy, as its site says; 0: none
    delta: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RoundUnderWay:
    """A round that was begun and not committed, and what is durable of it."""

    round: int
    cohort: frozenset[WorkerName]
    updates: tuple[StoredUpdate, ...]


def checkpoint_name(number: int) -> str:
    """Return the file name of a round's checkpoint; 0: the model that a run starts from."""
    return f"round-{number:04d}.pth"


class RunStore:
    """Everything a run must remember, in `FOLDER/run.sqlite`; held by one coordinator at a time.

    Raises `BadInput` when another coordinator holds the run, `StorageError` when the database cannot be written.
    """

    synchronous = "FULL"  # a committed transaction survives a loss of power

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "run.sqlite"
        self._writing = threading.Lock()  # one connection, used in threads: transactions must not mix
        try:
            disk.make_folder(folder)
        except OSError as exc:
            raise storage_error(folder, exc) from exc
        self._lock = _lock(folder)
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, self._lock)
            try:
                self._database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
                opened.callback(self._database.close)
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute(f"PRAGMA synchronous={self.synchronous}")
                self._migrate()
            except sqlite3.Error as exc:
                raise self._trouble(exc) from exc
            opened.pop_all()

    def begin(self, run: RunId, settings: RunSettings, record: SignedRecord, *, manifest: str, software: str) -> None:
        """Record a new run, and the first record of its chain."""
        document = json.dumps(settings.to_dict())
        with self._transaction() as database:
            database.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?)", (run, time.time(), document, manifest, software))
            _append(database, record)
            _note(database, "began")

    def resume(self, settings: RunSettings, record: SignedRecord | None) -> None:
        """Record that the run goes on with these settings; `record` begins the chain of a run that has none yet."""
        with self._transaction() as database:
            database.execute("UPDATE run SET settings = ?", (json.dumps(settings.to_dict()),))
            _note(database, "resumed")
            if record is not None:
                _append(database, record)

    def run(self) -> tuple[RunId, RunSettings, str]:
        """Return (run id, settings, manifest digest) of the run that was begun here."""
        row = self._row("SELECT id, settings, manifest FROM run")
        if row is None:
            raise BadInput(f"{self.folder}", found="no run", todo="start one without --resume")
        return RunId(row[0]), run_settings_from(json.loads(row[1])), row[2]

    def worker_seen(self, name: WorkerName, *, fingerprint: str, samples: int, device: str) -> None:
        """Record that a worker is ready for rounds."""
        now = time.time()
        with self._transaction() as database:
            database.execute(
                "INSERT INTO workers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "fingerprint = excluded.fingerprint, samples = excluded.samples, device = excluded.device, "
                "last_seen_s = excluded.last_seen_s",
                (name, fingerprint, samples, device, now, now),
            )

    def round_begun(self, number: int, cohort: Collection[WorkerName]) -> None:
        """Record that a round is under way; said again, that its cohort is this one now."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO begun VALUES (?, ?, ?) ON CONFLICT (round) DO UPDATE SET cohort = excluded.cohort",
                (number, json.dumps(sorted(cohort)), time.time()),
            )

    def round_under_way(self) -> RoundUnderWay | None:
        """Return the round after the last committed one, if it was begun."""
        row = self._row("SELECT round, cohort FROM begun WHERE round > (SELECT COALESCE(MAX(round), 0) FROM rounds)")
        if row is None:
            return None
        found = self._database.execute(
            "SELECT worker, sha256, nbytes, samples, train_s, loss, arrived_s, fingerprint, epsilon, delta, confusion "
            "FROM updates WHERE round = ? ORDER BY worker",
            (row[0],),
        )
        names = (
            *("worker", "sha256", "nbytes", "samples", "train_s", "loss", "arrived_s", "fingerprint"),
            *("epsilon", "delta"),
        )
        updates = tuple(
            StoredUpdate(**dict(zip(names, each, strict=True)), confusion=json.loads(confusion))
            for *each, confusion in found
        )
        return RoundUnderWay(round=row[0], cohort=frozenset(json.loads(row[1])), updates=updates)

    def update_stored(self, round_number: int, update: StoredUpdate) -> None:
        """Record that an update is durable; a row of the same worker and round, whose file it replaced, is gone."""
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO updates (round, worker, sha256, samples, stored_s, nbytes, train_s, loss, "
                "arrived_s, fingerprint, confusion, epsilon, delta) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    round_number,
                    update.worker,
                    update.sha256,
                    update.samples,
                    time.time(),
                    update.nbytes,
                    update.train_s,
                    update.loss,
                    update.arrived_s,
                    update.fingerprint,
                    json.dumps(update.confusion),
                    update.epsilon,
                    update.delta,
                ),
            )

    def stored_in(self, round_number: int) -> set[str]:
        """Return whose updates of a round were stored."""
        rows = self._database.execute("SELECT worker FROM updates WHERE round = ?", (round_number,))
        return {worker for (worker,) in rows}

    def update_lost(self, round_number: int, worker: WorkerName) -> None:
        """Forget an update whose file is gone: it is asked for again."""
        with self._transaction() as database:
            database.execute("DELETE FROM updates WHERE round = ? AND worker = ?", (round_number, worker))

    def commit(self, committed: CommittedRound, record: SignedRecord) -> None:
        """Make a round part of the run, with its record: the one moment from which it exists."""
        document = committed.document
        with self._transaction() as database:
            database.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, ?, ?)",
                (
                    committed.round,
                    time.time(),
                    committed.checkpoint,
                    committed.model_sha256,
                    document_text(document).decode(),
                ),
            )
            _append(database, record)
            database.executemany(
                "UPDATE updates SET fate = ?, reason = ? WHERE round = ? AND worker = ?",
                [
                    ("selected" if each["selected"] else "rejected", each["reason"], committed.round, each["worker"])
                    for each in document.get("updates", ())
                ],
            )

    def checkpoint_dropped(self, number: int) -> None:
        """Record that a round's checkpoint is kept no longer: its file does not exist from now on."""
        with self._transaction() as database:
            database.execute("UPDATE rounds SET checkpoint = '' WHERE round = ?", (number,))

    def records(self) -> list[SignedRecord]:
        """Return the chain, first to last."""
        return records_in(self._database)

    def run_declined(self, worker: WorkerName, reason: str) -> None:
        """Record that a hospital does not agree to this run."""
        with self._transaction() as database:
            _note(database, DECLINED, f"{worker}: {reason}")

    def noise_charged(self) -> None:
        """Record that a noised step is about to be drawn: it counts, whether its round is ever committed or not."""
        with self._transaction() as database:
            _note(database, NOISE_CHARGED)

    def noise_draws(self) -> int:
        """Return how many noised steps were charged since the run began."""
        found = self._database.execute("SELECT COUNT(*) FROM events WHERE what = ?", (NOISE_CHARGED,))
        return int(found.fetchone()[0])

    def worker_revoked(self, worker: WorkerName, reason: str) -> None:
        """Record that a worker takes part no more, because its certificate is revoked."""
        with self._transaction() as database:
            _note(database, REVOKED, f"{worker}: {reason}")

    def ended(self, how: str, reason: str) -> None:
        """Record how this process ends the run, or its part in it."""
        with self._transaction() as database:
            _note(database, how, reason)

    def rounds(self) -> list[CommittedRound]:
        """Return all committed rounds, first to last."""
        rows = self._database.execute("SELECT round, checkpoint, model_sha256, document FROM rounds ORDER BY round")
        return [
            CommittedRound(round=number, checkpoint=checkpoint, model_sha256=digest, document=json.loads(document))
            for number, checkpoint, digest, document in rows
        ]

    def fold(self) -> None:
        """Close the database, all of it in its one file unless somebody goes on reading it; the folder stays held."""
        try:
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as exc:
            raise self._trouble(exc) from exc
        self._database.close()

    def close(self) -> None:
        """Close the database, once nobody writes to it, and let another coordinator take the run."""
        with self._writing:
            self._database.close()
        os.close(self._lock)

    def _migrate(self) -> None:
        found = self._row("PRAGMA user_version")[0]
        if found > SCHEMA_VERSION:
            raise BadInput(
                f"{self._path}",
                found=f"schema version {found}",
                expected=f"at most {SCHEMA_VERSION}",
                todo="use the FedNet version that wrote it last, or a newer one",
            )
        for version, migration in enumerate(_MIGRATIONS[found:], start=found + 1):
            self._database.executescript(f"BEGIN; {migration} PRAGMA user_version = {version}; COMMIT;")

    def _row(self, query: str) -> Any:
        return self._database.execute(query).fetchone()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the database; what the block does to it is durable, whole, when the block has ended."""
        with self._writing:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield self._database
                    disk.note(disk.Operation(disk.Kind.COMMIT, self._path))
                    self._database.execute("COMMIT")
                except BaseException:
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                    raise
                disk.note(disk.Operation(disk.Kind.COMMITTED, self._path))
            except sqlite3.Error as exc:
                raise self._trouble(exc) from exc
            except OSError as exc:
                raise storage_error(self._path, exc) from exc

    def _trouble(self, exc: sqlite3.Error) -> StorageError:
        code = getattr(exc, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_FULL:
            return DiskFull(f"{self._path}: no room left to write it. Free some disk space, then --resume")
        if code & 0xFF == sqlite3.SQLITE_IOERR:
            return SyncFailed(f"{self._path}: the disk did not take it ({exc}). Check the disk before you start again")
        return StorageError(f"{self._path}: {exc}")


def records_in(database: sqlite3.Connection) -> list[SignedRecord]:
    """Return a run's chain, first to last."""
    rows = database.execute("SELECT header, entries, signature, certificate FROM audit ORDER BY round")
    return [
        SignedRecord(
            header=header,
            entries=tuple(text.encode() for text in json.loads(entries)),
            signature=signature,
            certificate=certificate,
        )
        for header, entries, signature, certificate in rows
    ]


def _append(database: sqlite3.Connection, record: SignedRecord) -> None:
    entries = json.dumps([entry.decode() for entry in record.entries])
    database.execute(
        "INSERT INTO audit (round, header, signature, certificate, entries) VALUES (?, ?, ?, ?, ?)",
        (record.round, record.header, record.signature, record.certificate, entries),
    )


def _note(database: sqlite3.Connection, what: str, detail: str = "") -> None:
    database.execute("INSERT INTO events VALUES (?, ?, ?)", (time.time(), what, detail))


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a run's database to read it, whoever holds the run; its folder stays as it is.

    What a crash left in the journal belongs to it, and SQLite reads that only where it may write: there a copy does.
    Where a coordinator is at work the journal's files are there already, and are shared.
    """
    path = folder / "run.sqlite"
    if is_held(folder):
        with _opened(path, "mode=ro") as database:
            yield database
    elif _has_bytes(folder / _WAL):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                for name in (path.name, _WAL):
                    shutil.copyfile(folder / name, Path(scratch) / name)
            except OSError as exc:
                raise StorageError(f"{path}: cannot be copied to be read ({exc.strerror})") from exc
            with _opened(Path(scratch) / path.name, "mode=ro") as database:
                yield database
    else:
        with _opened(path, "mode=ro&immutable=1") as database:
            yield database


@contextlib.contextmanager
def _opened(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True)) as database:
        yield database


def _has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def is_held(folder: Path) -> bool:
    """Whether a coordinator has the folder's lock; a shared one is tried, so that readers do not meet each other."""
    try:
        with (folder / "lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as exc:
        raise StorageError(f"{folder}: it cannot be seen whether a coordinator is at work ({exc.strerror})") from exc
    return False


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
        with reading(folder) as database:
            row = database.execute("SELECT settings FROM run").fetchone()
    except sqlite3.DatabaseError as exc:
        if "no such table" in str(exc):  # made, and never begun
            return None
        raise StorageError(f"{path}: {exc}") from exc
    return None if row is None else str(row[0])


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    give_up_s = time.monotonic() + _READER_HAS_LOOKED_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            if time.monotonic() < give_up_s:
                time.sleep(0.02)
                continue
            os.close(descriptor)
            raise BadInput(
                f"run {folder}", found="another coordinator at work in it", todo="choose another --run-dir"
            ) from exc
        return descriptor
