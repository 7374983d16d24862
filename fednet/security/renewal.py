"""Renewal: in the last third of its certificate's life a worker asks, over its connection, for one of a new key.

The connection proves who asks: the coordinator signs for the name and role of the certificate that it shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fednet.errors import CredentialError, Refused
from fednet.security.authority import (
    Authority,
    is_issued_by,
    pem_of,
    public_key_of,
    read_certificate,
    read_certificates,
)
from fednet.security.enrolment import Credentials, request_for, settled, take_staged_key
from fednet.security.identity import Role, identity_of, load_certificate
from fednet.security.keys import load_key, new_key, save_key
from fednet.security.rotation import Authorities, trust_digest, vouched
from fednet.security.signing import SignatureCheck, fingerprint_of
from fednet.security.tokens import TokenLedger
from fednet.storage.atomic import write_bytes

_LAST_SHARE = 1 / 3  # of its life: time enough for a coordinator that is away for days


def is_due(certificate: x509.Certificate, *, now: datetime) -> bool:
    """Whether a certificate is in the last third of its life; one that has ended cannot be renewed. Pure."""
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return ends - (ends - starts) * _LAST_SHARE <= now < ends


class OwnCertificate:
    """A worker's key and certificate, which it has renewed. One thread at a time."""

    def __init__(self, credentials: Credentials, clock: Callable[[], datetime]) -> None:
        self._credentials = credentials
        self._clock = clock

    def request_due(self, told: str) -> bytes | None:
        """Return a signing request where it is time for a new certificate, else None; raises `CredentialError`.

        It is also time where the coordinator trusts other authorities than this side: `told` is its `trust_digest`, ""
        where it has not said.
        """
        certificate = read_certificate(self._credentials.certificate_path)
        trusted = read_certificates(self._credentials.authority_path)
        is_changing = told not in ("", trust_digest(trusted)) and certificate.not_valid_after_utc > self._clock()
        return self.request() if is_changing or is_due(certificate, now=self._clock()) else None

    def request(self) -> bytes:
        """Return a signing request, DER, for a new key, which waits beside the present one for its certificate."""
        key = new_key()
        with settled(self._credentials):
            save_key(self._credentials.staged_key_path, key)
        return request_for(key, self._credentials.name)

    def store(self, certificate_der: bytes, told: Sequence[bytes]) -> datetime:
        """Put a renewed certificate and its key in the present ones' place; return when it ends.

        A crash leaves the old pair or the new one (`settled`). `told`: the coordinator's authorities, DER. Raises
        `CredentialError` unless the certificate is for our new key and our identity, by an authority that one of those
        known here vouches for.
        """
        own, certificate = self._credentials, load_certificate(certificate_der)
        with settled(own):
            trusted = read_certificates(own.authority_path)
            authorities, proofs = vouched(told, trusted)
            self._check(certificate, certificate_der, authorities)
            dropped = [each for each in trusted if each not in authorities]
            _add(own.vouched_path, proofs)
            _add(own.retired_path, dropped)
            added = [each for each in authorities if each not in trusted]
            if added:
                write_bytes(own.authority_path, pem_of([*trusted, *added]))  # good for both pairs
            write_bytes(own.certificate_path, pem_of([certificate]))
            take_staged_key(own)
            if dropped:
                write_bytes(own.authority_path, pem_of(authorities))
        return certificate.not_valid_after_utc

    def _check(self, certificate: x509.Certificate, der: bytes, authorities: Sequence[x509.Certificate]) -> None:
        own, what = self._credentials, "renewed certificate"
        present = identity_of(read_certificate(own.certificate_path).public_bytes(serialization.Encoding.DER))
        named = identity_of(der)
        if not any(is_issued_by(certificate, each) for each in authorities):
            raise CredentialError(what, found="not signed by an authority of this federation")
        if not own.staged_key_path.exists() or certificate.public_key() != load_key(own.staged_key_path).public_key():
            raise CredentialError(what, found="another key in it than was asked for last")
        if (named.name, named.role) != (present.name, present.role):
            raise CredentialError(what, found=f"{named.role.value} {named.name} in it", expected=present.name)


def _add(path: Path, certificates: Sequence[x509.Certificate]) -> None:
    """Put certificates into a file beside those that it has."""
    known = read_certificates(path) if path.exists() else []
    new = [each for each in certificates if each not in known]
    if new:
        write_bytes(path, pem_of([*known, *new]))


def check_record(credentials: Credentials, header: bytes, signature: bytes, certificate_der: bytes) -> None:
    """Check a record that this worker is shown against the authorities that it trusts now, or did once.

    They are read each time, since a renewal may bring others in the middle of a run. Raises `AuditError`.
    """
    authorities = read_certificates(credentials.authority_path)
    if credentials.given is None and credentials.retired_path.exists():
        authorities += read_certificates(credentials.retired_path)
    SignatureCheck(*authorities)(header, signature, certificate_der)


@dataclass(frozen=True, kw_only=True)
class Renewed:
    """What a worker gets: its certificate, and whom to trust from now on, DER each."""

    certificate: bytes
    authorities: list[bytes]


class Renewer:
    """Signs workers' renewals at the coordinator. Thread-safe."""

    def __init__(self, signs: Authority, authorities: Authorities, ledger: TokenLedger) -> None:
        """`signs`: one of the `authorities` that are trusted now."""
        self._signs = signs
        self._authorities = authorities
        self._ledger = ledger
        self.authorities_sha256 = trust_digest(authorities.trusted)

    def note_shown(self, certificate_der: bytes, *, now: datetime) -> None:
        """Remember, while an authority is changed over, who has connected with a certificate of the next one."""
        successor = self._authorities.successor
        certificate = load_certificate(certificate_der)
        if successor is not None and is_issued_by(certificate, successor):
            self._ledger.record_shown(fingerprint_of(certificate), now=now)

    def renew(self, shown: bytes, request_der: bytes, *, now: datetime) -> Renewed:
        """Return a certificate for the name and role of the `shown` one, DER; of the request only the key is used.

        Raises `Refused` with a code, `CredentialError` for the request.
        """
        certificate, identity = load_certificate(shown), identity_of(shown)
        if identity.role is Role.COORDINATOR:
            raise Refused("renewal-role", "a coordinator's certificate is renewed at the centre")
        if not any(is_issued_by(certificate, each) for each in self._authorities.trusted):
            raise Refused("renewal-authority", "this certificate is of another authority, which has to renew it")
        if identity.not_after <= now:
            when = f"{identity.not_after:%Y-%m-%d %H:%M} UTC"
            raise Refused("renewal-expired", f"the certificate expired at {when}: join with a new --token")
        if public_key_of(request_der) == certificate.public_key():
            raise Refused("renewal-key", "a renewal is for a new key, this is the old one")
        renewed = self._signs.sign_worker(request_der, identity.name, now=now, role=identity.role)
        authority = fingerprint_of(self._signs.certificate)
        self._ledger.record_renewal(identity_of(renewed), shown=identity.fingerprint, authority=authority, now=now)
        return Renewed(certificate=renewed, authorities=self._authorities.told)
