"""Reads a run's database without changing its folder: no journal files appear beside it, and nothing is folded."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from fednet.audit.evidence import RecordRow, RoundRow, RunRows, UpdateRow
from fednet.audit.findings import plain
from fednet.errors import AuditError, BadInput
from fednet.storage.store import reading


def read_evidence(folder: Path) -> RunRows:
    """Return what the database of the run in `folder` says.

    Raises `AuditError` where it cannot be read, `BadInput` where no run was begun, or one that kept no records.
    """
    try:
        with reading(folder) as database:
            database.text_factory = lambda raw: raw.decode(errors="surrogateescape")
            database.execute("BEGIN")  # one moment of a run that goes on meanwhile
            if _is_from_before_records(database):
                raise BadInput(
                    f"run {folder}",
                    found="no records: an older version began it",
                    todo="`coordinator start --resume` with this version begins them",
                )
            return _rows(database, folder)
    except (sqlite3.Error, UnicodeDecodeError) as exc:  # of a damaged schema SQLite's own message may be no UTF-8
        raise AuditError(f"cannot be read ({plain(str(exc))})") from exc


def _rows(database: sqlite3.Connection, folder: Path) -> RunRows:
    begun = database.execute("SELECT id, created_s, settings, manifest FROM run").fetchone()
    if begun is None:
        raise BadInput(f"run {folder}", found="a run that was never begun")
    records = database.execute("SELECT round, header, entries, signature, certificate FROM audit ORDER BY round")
    rounds = database.execute(
        "SELECT round, committed_s, checkpoint, model_sha256, document FROM rounds ORDER BY round"
    )
    updates = database.execute(
        "SELECT round, worker, sha256, samples, fingerprint, fate, reason FROM updates ORDER BY round, worker"
    )
    resumed = database.execute("SELECT at_s FROM events WHERE what = 'resumed'")
    return RunRows(
        **dict(zip(("run", "created_s", "settings", "manifest"), begun, strict=True)),
        records=tuple(
            RecordRow(
                round=_number(number), header=header, entries=entries, signature=signature, certificate=certificate
            )
            for number, header, entries, signature, certificate in records
        ),
        rounds=tuple(
            RoundRow(
                round=_number(number), committed_s=at, checkpoint=checkpoint, model_sha256=digest, document=document
            )
            for number, at, checkpoint, digest, document in rounds
        ),
        updates=tuple(
            UpdateRow(
                round=number,
                worker=worker,
                sha256=digest,
                samples=samples,
                fingerprint=fingerprint,
                fate=fate,
                reason=reason,
            )
            for number, worker, digest, samples, fingerprint, fate, reason in updates
        ),
        resumed_s=tuple(at for (at,) in resumed),
    )


def _number(value: object) -> int:
    if not isinstance(value, int):  # a key always is one, unless the schema was changed
        raise AuditError(f"cannot be read (a round has the number {plain(value)})")
    return value


def _is_from_before_records(database: sqlite3.Connection) -> bool:
    is_there = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'audit'").fetchone() is not None
    return not is_there and database.execute("PRAGMA user_version").fetchone() == (1,)
