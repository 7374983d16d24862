"""The ledger of tokens, certificates and revocations: one SQLite file beside the authority, shared by processes."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from fednet.errors import REVOKED, Refused, StorageError
from fednet.security.keys import private_folder

_BUSY_TIMEOUT_S = 10.0  # the ledger is shared with other processes; a transaction of theirs takes milliseconds
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    secret_sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, issued_s REAL NOT NULL, expires_s REAL NOT NULL,
    redeemed_s REAL, key_sha256 TEXT
);
CREATE TABLE IF NOT EXISTS token_roles (secret_sha256 TEXT PRIMARY KEY, role TEXT NOT NULL); -- none: a worker's
CREATE TABLE IF NOT EXISTS certificates (
    fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, issued_s REAL NOT NULL, expires_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS issuers (fingerprint TEXT PRIMARY KEY, authority TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS shown_certificates (           -- of the next authority: a worker has connected with it
    fingerprint TEXT PRIMARY KEY, shown_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (secret_sha256 TEXT PRIMARY KEY, certificate BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS revoked_certificates (         -- for good
    fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, reason TEXT NOT NULL, revoked_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS revoked_names (                -- until a new token for the name is made
    name TEXT PRIMARY KEY, reason TEXT NOT NULL, revoked_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS revoked_tokens (secret_sha256 TEXT PRIMARY KEY, reason TEXT NOT NULL);
"""


class Ledger:
    """Access to `FOLDER/tokens.sqlite`; safe for several threads and processes at once."""

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self._path = folder / "tokens.sqlite"
        with self._transaction() as database:
            database.executescript(_SCHEMA)
            self._path.chmod(0o600)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection for one transaction: enrolment runs in threads, and `certs` in other processes."""
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)) as database, database:
                yield database
        except (sqlite3.Error, OSError) as exc:
            raise StorageError(f"{self._path}: {exc}") from exc


def refuse_revoked(database: sqlite3.Connection, name: str, *, shown: str | None = None) -> None:
    """Raise `Refused` where this name, or the certificate that is `shown` (its fingerprint), has been revoked.

    Ask in the transaction that records a new certificate, once it has begun to write: a revocation that came first is
    seen, one that comes later finds the certificate.
    """
    row = database.execute(
        "SELECT reason FROM revoked_names WHERE name = ? UNION ALL "
        "SELECT reason FROM revoked_certificates WHERE fingerprint = ?",
        (name, shown),
    ).fetchone()
    if row is not None:
        raise Refused(REVOKED, revoked_text(name, row[0]))


def revoked_text(name: str, reason: str) -> str:
    """Return what somebody is told whose certificate is revoked."""
    return f"the certificate of {name} is revoked: {reason}. Ask the coordinating centre"


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes, hex: as the ledger knows secrets and keys."""
    return hashlib.sha256(data).hexdigest()


def time_of(seconds: float) -> datetime:
    """Return a moment of the ledger, UTC."""
    return datetime.fromtimestamp(seconds, UTC)
