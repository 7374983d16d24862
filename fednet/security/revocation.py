"""Revocation: certificates by their fingerprint, for good; and a whole name, until a new token for it is made."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from fednet.errors import BadInput
from fednet.security.identity import PeerIdentity
from fednet.security.ledger import Ledger

MAX_REASON = 300  # characters: it goes into records and onto other people's screens
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Revocations:
    """What is revoked, as of one look at the ledger: fingerprint or name -> why."""

    certificates: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def reason(self, name: str, fingerprint: str) -> str | None:
        """Return why whoever shows this certificate is not to take part, or None."""
        return self.certificates.get(fingerprint) or self.names.get(name)

    def reason_for(self, identity: PeerIdentity) -> str | None:
        """Return why this peer is not to take part, or None."""
        return self.reason(identity.name, identity.fingerprint)


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """What one revocation took away."""

    certificates: list[str]  # fingerprints
    tokens: int
    blocks_name: str | None  # a name of which nothing is good any more, until a new token lets it in again


class RevocationLedger(Ledger):
    """Revocations, in the ledger that coordinators and `certs` share."""

    def current(self) -> Revocations:
        """Return all that is revoked now."""
        with self._transaction() as database:
            certificates = database.execute("SELECT fingerprint, reason FROM revoked_certificates").fetchall()
            names = database.execute("SELECT name, reason FROM revoked_names").fetchall()
        return Revocations(certificates=dict(certificates), names=dict(names))

    def revoke(self, subject: str, *, reason: str, now: datetime, vouched: Collection[str] = ()) -> Withdrawn:
        """Revoke all that a name has, tokens included, or the one certificate with this fingerprint.

        A name's tokens go with it, used ones too: else the answer to one could be asked for again. A fingerprint leaves
        the name alone while it has something else that is good. Raises `BadInput` for what the ledger does not know;
        `vouched` are names for which sites' own authorities speak, whose certificates it cannot know.
        """
        reason = _checked(reason)
        fingerprint = subject.replace(":", "").lower()
        with self._transaction() as database:
            database.execute("BEGIN IMMEDIATE")
            if _FINGERPRINT.fullmatch(fingerprint):
                return self._revoke_one(database, fingerprint, reason, now, has_others=bool(vouched))
            return self._revoke_name(database, subject, reason, now, is_known=subject in vouched)

    def shut_out(self, names: Collection[str], *, reason: str, now: datetime) -> None:
        """Revoke these names until they are let in again: nobody known here speaks for them any more.

        The ledger does not know the certificates that a site's own authority has signed for them.
        """
        with self._transaction() as database:
            for name in names:
                _block(database, name, reason, now)

    def let_in(self, names: Collection[str]) -> None:
        """Revoke these names no more: a site's own authority has been trusted for them anew."""
        with self._transaction() as database:
            database.executemany("DELETE FROM revoked_names WHERE name = ?", [(name,) for name in names])

    def _revoke_name(
        self, database: sqlite3.Connection, name: str, reason: str, now: datetime, *, is_known: bool
    ) -> Withdrawn:
        known = [row[0] for row in database.execute("SELECT fingerprint FROM certificates WHERE name = ?", (name,))]
        tokens = _open_tokens(database, name, now)
        is_known = is_known or bool(known)
        if not is_known and not database.execute("SELECT 1 FROM tokens WHERE name = ?", (name,)).fetchone():
            raise _unknown(f"name {name!r}", "`certs list` shows those it has given out")
        new = [each for each in known if _revoke(database, each, name, reason, now)]
        database.execute(
            "INSERT OR IGNORE INTO revoked_tokens SELECT secret_sha256, ? FROM tokens WHERE name = ?", (reason, name)
        )
        _block(database, name, reason, now)
        return Withdrawn(certificates=new, tokens=tokens, blocks_name=name)

    def _revoke_one(
        self, database: sqlite3.Connection, fingerprint: str, reason: str, now: datetime, *, has_others: bool
    ) -> Withdrawn:
        row = database.execute("SELECT name FROM certificates WHERE fingerprint = ?", (fingerprint,)).fetchone()
        if row is None and not has_others:
            raise _unknown(f"certificate {fingerprint}", "`certs list` shows the fingerprints of those it has issued")
        if row is None:  # perhaps by a site's own authority
            new = [fingerprint] if _revoke(database, fingerprint, "", reason, now) else []
            return Withdrawn(certificates=new, tokens=0, blocks_name=None)
        name = row[0]
        new = [fingerprint] if _revoke(database, fingerprint, name, reason, now) else []
        others = database.execute(
            "SELECT 1 FROM certificates WHERE name = ? AND expires_s > ? "
            "AND fingerprint NOT IN (SELECT fingerprint FROM revoked_certificates)",
            (name, now.timestamp()),
        ).fetchone()
        is_last = others is None and not _open_tokens(database, name, now)
        if is_last:
            _block(database, name, reason, now)
        return Withdrawn(certificates=new, tokens=0, blocks_name=name if is_last else None)


def _checked(reason: str) -> str:
    text = " ".join(reason.split())
    if not text or len(text) > MAX_REASON or not text.isprintable():
        found = f"{len(text)} characters" if text.isprintable() else "characters that cannot be printed"
        raise BadInput("--reason", found=found, expected=f"1 to {MAX_REASON} characters that say why")
    return text


def _revoke(database: sqlite3.Connection, fingerprint: str, name: str, reason: str, now: datetime) -> bool:
    """Return whether it was good until now: a first reason stays."""
    row = (fingerprint, name, reason, now.timestamp())
    return database.execute("INSERT OR IGNORE INTO revoked_certificates VALUES (?, ?, ?, ?)", row).rowcount == 1


def _block(database: sqlite3.Connection, name: str, reason: str, now: datetime) -> None:
    database.execute("INSERT OR IGNORE INTO revoked_names VALUES (?, ?, ?)", (name, reason, now.timestamp()))


def _open_tokens(database: sqlite3.Connection, name: str, now: datetime) -> int:
    row = database.execute(
        "SELECT COUNT(*) FROM tokens WHERE name = ? AND redeemed_s IS NULL AND expires_s > ? "
        "AND secret_sha256 NOT IN (SELECT secret_sha256 FROM revoked_tokens)",
        (name, now.timestamp()),
    ).fetchone()
    return int(row[0])


def _unknown(what: str, todo: str) -> BadInput:
    return BadInput(what, found="nothing of it in this folder's ledger", todo=f"check --certs; {todo}")
