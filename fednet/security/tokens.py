"""Join tokens: one pasteable string each, and the ledger in which a token is redeemed exactly once."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgpack

from fednet.config import WorkerName, worker_name
from fednet.errors import BadInput, CredentialError, Refused, StorageError
from fednet.security.identity import PeerIdentity
from fednet.security.keys import private_folder

_PREFIX = "fednet1."
_BUSY_TIMEOUT_S = 10.0  # the ledger is shared with other processes; a transaction of theirs takes milliseconds
_CHECKSUM_BYTES = 4
SECRET_BYTES = 32

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tokens (
    secret_sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, issued_s REAL NOT NULL, expires_s REAL NOT NULL,
    redeemed_s REAL, key_sha256 TEXT
);
CREATE TABLE IF NOT EXISTS certificates (
    fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, issued_s REAL NOT NULL, expires_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (secret_sha256 TEXT PRIMARY KEY, certificate BLOB NOT NULL);
"""


@dataclass(frozen=True)
class JoinToken:
    """All a worker needs to enrol: whom it talks to, where, as whom, and the secret that proves it may.

    It carries the authority's certificate itself, so the worker knows the coordinator before it says anything.
    """

    authority_der: bytes
    host: str
    port: int
    name: WorkerName | None  # None: any name, for the loopback token
    secret: bytes = field(repr=False)  # never in a log

    def encode(self) -> str:
        """Return the pasteable string."""
        body = msgpack.packb([self.authority_der, self.host, self.port, self.name, self.secret])
        return _PREFIX + base64.urlsafe_b64encode(_checksum(body) + body).decode().rstrip("=")


def decode_token(text: str) -> JoinToken:
    """Return the token in a pasted string; raises `CredentialError` that says what is wrong with it."""
    text = "".join(text.split())
    if not text.startswith(_PREFIX):
        version = re.match(r"fednet\d+\.", text)
        raise CredentialError(
            "join token",
            found=f"one of another FedNet version ({version[0]})" if version else repr(text[:12]),
            expected=f"a string that starts with '{_PREFIX}'",
            todo="use the same FedNet version as the coordinating centre" if version else "paste it again",
        )
    coded = text.removeprefix(_PREFIX)
    try:
        data = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
        body = data[_CHECKSUM_BYTES:]
        if data[:_CHECKSUM_BYTES] != _checksum(body):
            raise ValueError("checksum")
        return _token_of(*msgpack.unpackb(body))
    except (ValueError, TypeError, binascii.Error, msgpack.UnpackException, BadInput) as exc:
        raise CredentialError(
            "join token", found="one that is cut short or mistyped", todo="copy the whole line and paste it again"
        ) from exc


def _token_of(authority: object, host: object, port: object, name: object, secret: object) -> JoinToken:
    """Return the token with these fields; raises `TypeError`, `ValueError` or `BadInput` where one is no such thing."""
    if not (isinstance(authority, bytes) and isinstance(host, str) and isinstance(secret, bytes)):
        raise TypeError("authority, host or secret")
    if not (isinstance(port, int) and 0 < port < 65536):
        raise ValueError("port")
    if not (name is None or isinstance(name, str)):
        raise TypeError("name")
    return JoinToken(authority, host, port, None if name is None else worker_name(name), secret)


@dataclass(frozen=True)
class TokenRow:
    """One issued token as `certs list` shows it; its secret is not known any more."""

    name: WorkerName
    issued: datetime
    expires: datetime
    redeemed: datetime | None


@dataclass(frozen=True)
class CertificateRow:
    """One issued certificate."""

    name: WorkerName
    fingerprint: str
    issued: datetime
    expires: datetime


class TokenLedger:
    """Issued tokens (as hashes) and certificates, in `FOLDER/tokens.sqlite`; safe for several processes at once."""

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self._path = folder / "tokens.sqlite"
        with self._transaction() as database:
            database.executescript(_SCHEMA)
            self._path.chmod(0o600)

    def issue(self, name: WorkerName, *, lifetime: timedelta, now: datetime) -> bytes:
        """Return the secret of a new token for `name`."""
        secret = secrets.token_bytes(SECRET_BYTES)
        with self._transaction() as database:
            database.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, NULL, NULL)",
                (_hash(secret), name, now.timestamp(), (now + lifetime).timestamp()),
            )
        return secret

    def redeem(self, secret: bytes, name: WorkerName, public_key: bytes, *, now: datetime) -> bytes | None:
        """Use up a token, in one atomic step; raises `Refused` with a code.

        Within its lifetime a token may be redeemed again for the same public key: where the answer was lost, the
        hospital asks again, and nobody else can, since nobody else holds that key. Then the certificate that was
        issued for it is returned: the same one, so that a token never gets round the revocation of a fingerprint.
        None means that none has been issued yet.
        """
        key = _hash(public_key)
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE tokens SET redeemed_s = COALESCE(redeemed_s, ?), key_sha256 = ? "
                "WHERE secret_sha256 = ? AND name = ? AND expires_s > ? AND (redeemed_s IS NULL OR key_sha256 = ?)",
                (now.timestamp(), key, _hash(secret), name, now.timestamp(), key),
            ).rowcount
            row = database.execute(
                "SELECT name, expires_s FROM tokens WHERE secret_sha256 = ?", (_hash(secret),)
            ).fetchone()
            issued = database.execute(
                "SELECT certificate FROM answers WHERE secret_sha256 = ?", (_hash(secret),)
            ).fetchone()
        if changed == 0:
            raise _refusal(name, row, now)
        return issued[0] if issued else None

    def record(self, identity: PeerIdentity, certificate_der: bytes, *, redeemed: bytes | None, now: datetime) -> None:
        """Remember an issued certificate, and as the answer to the token whose secret `redeemed` is, if to any."""
        with self._transaction() as database:
            database.execute(
                "INSERT INTO certificates VALUES (?, ?, ?, ?)",
                (identity.fingerprint, identity.name, now.timestamp(), identity.not_after.timestamp()),
            )
            if redeemed is not None:
                database.execute("INSERT INTO answers VALUES (?, ?)", (_hash(redeemed), certificate_der))

    def tokens(self) -> list[TokenRow]:
        """Return all tokens, newest first."""
        with self._transaction() as database:
            rows = database.execute("SELECT name, issued_s, expires_s, redeemed_s FROM tokens ORDER BY issued_s DESC")
            return [TokenRow(n, _time(i), _time(e), r and _time(r)) for n, i, e, r in rows.fetchall()]

    def certificates(self) -> list[CertificateRow]:
        """Return all certificates, newest first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT name, fingerprint, issued_s, expires_s FROM certificates ORDER BY issued_s DESC"
            )
            return [CertificateRow(n, f, _time(i), _time(e)) for n, f, i, e in rows.fetchall()]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection for one transaction: enrolment runs in threads, and `certs` in other processes."""
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)) as database, database:
                yield database
        except (sqlite3.Error, OSError) as exc:
            raise StorageError(f"{self._path}: {exc}") from exc


def _refusal(name: WorkerName, row: tuple[str, float] | None, now: datetime) -> Refused:
    if row is None:
        return Refused("token-unknown", "join token is unknown to this coordinator. Ask it for `certs token`")
    if row[0] != name:
        return Refused("token-name", f"join token is for {row[0]}, not for {name}. Join as {row[0]}")
    if row[1] <= now.timestamp():
        return Refused(
            "token-expired", f"join token for {name} expired at {_time(row[1]):%Y-%m-%d %H:%M} UTC. Ask anew"
        )
    return Refused("token-used", f"join token for {name} was used already. Ask the coordinator for a new one")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
