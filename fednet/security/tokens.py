"""Join tokens: one pasteable string each, and the ledger in which a token is redeemed exactly once."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import sqlite3
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgpack

from fednet.config import WorkerName, worker_name
from fednet.errors import BadInput, CredentialError, Refused
from fednet.security.identity import PeerIdentity, Role
from fednet.security.ledger import Ledger, refuse_revoked, sha256_hex, time_of

_PREFIX = "fednet1."
_CHECKSUM_BYTES = 4
SECRET_BYTES = 32


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
    role: Role = Role.WORKER
    revoked: str = ""  # why, if it is


@dataclass(frozen=True)
class CertificateRow:
    """One issued certificate."""

    name: WorkerName
    fingerprint: str
    issued: datetime
    expires: datetime
    authority: str = ""  # the fingerprint of the one that renewed it; empty: the first one of its worker
    was_shown: bool = False  # whether a worker has connected with it while an authority was changed over to that one
    revoked: str = ""  # why, if it is


class TokenLedger(Ledger):
    """Issued tokens (as hashes) and certificates."""

    def issue(self, name: WorkerName, *, lifetime: timedelta, now: datetime, role: Role = Role.WORKER) -> bytes:
        """Return the secret of a new token for `name`, which lets a revoked name in again."""
        secret = secrets.token_bytes(SECRET_BYTES)
        with self._transaction() as database:
            database.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, NULL, NULL)",
                (sha256_hex(secret), name, now.timestamp(), (now + lifetime).timestamp()),
            )
            if role is not Role.WORKER:
                database.execute("INSERT INTO token_roles VALUES (?, ?)", (sha256_hex(secret), role.value))
            database.execute("DELETE FROM revoked_names WHERE name = ?", (name,))
        return secret

    def redeem(self, secret: bytes, name: WorkerName, public_key: bytes, *, now: datetime) -> bytes | None:
        """Use up a token, in one atomic step; raises `Refused` with a code.

        Within its lifetime a token may be redeemed again for the same public key: where the answer was lost, the
        hospital asks again, and nobody else can, since nobody else holds that key. Then the certificate that was
        issued for it is returned: the same one, so that a token never gets round the revocation of a fingerprint.
        None means that none has been issued yet, or that it has ended since.
        """
        key = sha256_hex(public_key)
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE tokens SET redeemed_s = COALESCE(redeemed_s, ?), key_sha256 = ? "
                "WHERE secret_sha256 = ? AND name = ? AND expires_s > ? AND (redeemed_s IS NULL OR key_sha256 = ?) "
                "AND secret_sha256 NOT IN (SELECT secret_sha256 FROM revoked_tokens)",
                (now.timestamp(), key, sha256_hex(secret), name, now.timestamp(), key),
            ).rowcount
            row = database.execute(
                "SELECT name, expires_s, reason FROM tokens LEFT JOIN revoked_tokens USING (secret_sha256) "
                "WHERE secret_sha256 = ?",
                (sha256_hex(secret),),
            ).fetchone()
            issued = database.execute(
                "SELECT certificate FROM answers WHERE secret_sha256 = ?", (sha256_hex(secret),)
            ).fetchone()
            if issued and self._has_ended(database, issued[0], now):
                issued = None
        if changed == 0:
            raise _refusal(name, row, now)
        return issued[0] if issued else None

    def _has_ended(self, database: sqlite3.Connection, certificate_der: bytes, now: datetime) -> bool:
        """Whether a certificate has ended of itself; a revoked one has not, and stays the answer."""
        ended = database.execute(
            "SELECT 1 FROM certificates WHERE fingerprint = ? AND expires_s <= ? "
            "AND fingerprint NOT IN (SELECT fingerprint FROM revoked_certificates)",
            (sha256_hex(certificate_der), now.timestamp()),
        ).fetchone()
        return ended is not None

    def role_of(self, secret: bytes) -> Role:
        """Return the role of the certificate that a token is good for."""
        with self._transaction() as database:
            row = database.execute("SELECT role FROM token_roles WHERE secret_sha256 = ?", (sha256_hex(secret),))
            return Role(next(row, (Role.WORKER.value,))[0])

    def record_renewal(self, identity: PeerIdentity, *, shown: str, authority: str, now: datetime) -> None:
        """Remember a renewed certificate, and the fingerprint of the authority that signed it.

        `shown` is the fingerprint of the one before. Raises `Refused` where that, or the name, has been revoked.
        """
        with self._transaction() as database:
            database.execute(
                "INSERT INTO certificates (fingerprint, name, issued_s, expires_s) VALUES (?, ?, ?, ?)",
                (identity.fingerprint, identity.name, now.timestamp(), identity.not_after.timestamp()),
            )
            database.execute("INSERT INTO issuers VALUES (?, ?)", (identity.fingerprint, authority))
            refuse_revoked(database, identity.name, shown=shown)

    def record_shown(self, fingerprint: str, *, now: datetime) -> None:
        """Remember that a worker has connected with this certificate, so it has it."""
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO shown_certificates VALUES (?, ?)", (fingerprint, now.timestamp()))

    def record(self, identity: PeerIdentity, certificate_der: bytes, *, redeemed: bytes | None, now: datetime) -> None:
        """Remember an issued certificate, and as the answer to the token whose secret `redeemed` is, if to any.

        Raises `Refused` where its name has been revoked.
        """
        with self._transaction() as database:
            database.execute(
                "INSERT INTO certificates VALUES (?, ?, ?, ?)",
                (identity.fingerprint, identity.name, now.timestamp(), identity.not_after.timestamp()),
            )
            refuse_revoked(database, identity.name)
            if redeemed is not None:
                database.execute(
                    "INSERT OR REPLACE INTO answers VALUES (?, ?)", (sha256_hex(redeemed), certificate_der)
                )

    def tokens(self) -> list[TokenRow]:
        """Return all tokens, newest first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT name, issued_s, expires_s, redeemed_s, COALESCE(role, ?), COALESCE(reason, '') FROM tokens "
                "LEFT JOIN token_roles USING (secret_sha256) LEFT JOIN revoked_tokens USING (secret_sha256) "
                "ORDER BY issued_s DESC",
                (Role.WORKER.value,),
            )
            return [
                TokenRow(name, time_of(issued), time_of(expires), redeemed and time_of(redeemed), Role(role), reason)
                for name, issued, expires, redeemed, role, reason in rows.fetchall()
            ]

    def certificates(self) -> list[CertificateRow]:
        """Return all certificates, newest first."""
        with self._transaction() as database:
            rows = database.execute(
                "SELECT certificates.name, fingerprint, issued_s, expires_s, COALESCE(authority, ''), "
                "shown_s IS NOT NULL, COALESCE(reason, '') FROM certificates LEFT JOIN issuers USING (fingerprint) "
                "LEFT JOIN shown_certificates USING (fingerprint) "
                "LEFT JOIN revoked_certificates USING (fingerprint) ORDER BY issued_s DESC"
            )
            return [
                CertificateRow(name, fingerprint, time_of(issued), time_of(expires), authority, bool(shown), reason)
                for name, fingerprint, issued, expires, authority, shown, reason in rows.fetchall()
            ]


def _refusal(name: WorkerName, row: tuple[str, float, str | None] | None, now: datetime) -> Refused:
    if row is None:
        return Refused("token-unknown", "join token is unknown to this coordinator. Ask it for `certs token`")
    if row[0] != name:
        return Refused("token-name", f"join token is for {row[0]}, not for {name}. Join as {row[0]}")
    if row[2] is not None:
        return Refused("token-revoked", f"join token for {name} is revoked: {row[2]}. Ask the coordinating centre")
    if row[1] <= now.timestamp():
        return Refused(
            "token-expired", f"join token for {name} expired at {time_of(row[1]):%Y-%m-%d %H:%M} UTC. Ask anew"
        )
    return Refused("token-used", f"join token for {name} was used already. Ask the coordinator for a new one")


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]
