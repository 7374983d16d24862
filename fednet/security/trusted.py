"""Sites that bring certificates of their own authority: which authorities are trusted, and for which names exactly.

TLS verifies that one of the known authorities stands behind a certificate. Which of them it is, and whether that one
may speak for the name in it, is decided here, by the signature itself: a site's authority can vouch for its own
workers, never for another site's, nor for the coordinator.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from fednet.config import WorkerName, worker_name
from fednet.errors import BadInput, CredentialError
from fednet.security.authority import is_issued_by, is_strong, pem_of
from fednet.security.identity import PeerIdentity, Role, identity_of, load_certificate
from fednet.security.keys import private_folder
from fednet.security.rotation import authorities_in
from fednet.security.signing import fingerprint_of
from fednet.storage import disk
from fednet.storage.atomic import write_json

_FOLDER = "trusted"
_CHECKED = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.NAME_CONSTRAINTS}
_CHECKED_BY_OPENSSL = (x509.DNSName, x509.DirectoryName, x509.RFC822Name, x509.IPAddress)


@dataclass(frozen=True, kw_only=True)
class TrustedAuthority:
    """A site's authority, and the workers it may speak for."""

    certificate: x509.Certificate
    names: tuple[WorkerName, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate, hex."""
        return fingerprint_of(self.certificate)


@dataclass(frozen=True, kw_only=True)
class KnownAuthorities:
    """Everybody who may vouch for a worker at one coordinator."""

    own: tuple[x509.Certificate, ...]
    sites: tuple[TrustedAuthority, ...]

    @property
    def certificates(self) -> list[x509.Certificate]:
        """All of them."""
        return [*self.own, *(site.certificate for site in self.sites)]

    def identity(self, certificate_der: bytes) -> PeerIdentity:
        """Return who a peer is whose certificate TLS has verified, if its authority may say so.

        Raises `CredentialError` where no known authority has signed the certificate itself, or one that was not trusted
        for this name.
        """
        certificate, identity = load_certificate(certificate_der), identity_of(certificate_der)
        if any(is_issued_by(certificate, authority) for authority in self.own):
            return identity
        site = next((site for site in self.sites if is_issued_by(certificate, site.certificate)), None)
        claimed = f"certificate of {identity.role.value} {identity.name}"
        if site is None:
            raise CredentialError(
                claimed, found="a signature by none of the authorities that are trusted here themselves"
            )
        if identity.role is not Role.WORKER or identity.name not in site.names:
            raise CredentialError(
                claimed,
                found=f"signed by an authority ({site.fingerprint[:16]}...) that is trusted for other names",
                expected=f"worker {' or '.join(site.names)}",
            )
        return identity


def known_authorities(folder: Path) -> KnownAuthorities:
    """Return them as they stand in the certificates' folder; raises `CredentialError`."""
    return KnownAuthorities(own=tuple(authorities_in(folder).trusted), sites=tuple(trusted_in(folder)))


def trusted_in(folder: Path) -> list[TrustedAuthority]:
    """Return the sites' authorities that are recorded; raises `CredentialError` for a damaged record."""
    return [_read(path) for path in sorted((folder / _FOLDER).glob("*.json"))]


def trust(folder: Path, certificate: x509.Certificate, names: Sequence[WorkerName], *, now: datetime) -> None:
    """Record an authority for exactly these names, more of them where it is recorded already; raises `BadInput`."""
    known = known_authorities(folder)
    found = objection(certificate, now=now)
    if certificate.public_key() in [each.public_key() for each in known.own]:
        found = "this federation's own authority, which speaks for all"
    elif any(each.subject == certificate.subject and each != certificate for each in known.certificates):
        found = "the name of another authority that is trusted here"  # TLS would look for one and find the other
    if found is not None:
        raise BadInput("certs trust", found=found, expected="a site's authority that issues its workers' certificates")
    print_ = fingerprint_of(certificate)
    own: tuple[WorkerName, ...] = ()
    for each in known.sites:
        if each.fingerprint == print_:
            own = each.names
        elif taken := sorted(set(names) & set(each.names)):
            raise BadInput(
                f"--name {taken[0]}",
                found=f"one for which {each.fingerprint[:16]}... is trusted",
                todo="take that away first: certs trust --remove --name",
            )
    _write(folder, TrustedAuthority(certificate=certificate, names=tuple(sorted({*own, *names}))))


def remove(folder: Path, names: Sequence[WorkerName], *, fingerprint: str | None = None) -> list[WorkerName]:
    """Trust nobody (or not the authority with this fingerprint) for these names any more, or it for none; return them.

    Raises `BadInput` where nobody was trusted so.
    """
    if not names and fingerprint is None:
        raise BadInput("certs trust --remove", found="nothing", expected="the authority's FILE, --name, or both")
    removed: list[WorkerName] = []
    for each in trusted_in(folder):
        if fingerprint not in (None, each.fingerprint):
            continue
        gone = [name for name in each.names if name in names or not names]
        removed += gone
        left = tuple(name for name in each.names if name not in gone)
        if not left:
            disk.unlink(_path(folder, each))
        elif gone:
            _write(folder, TrustedAuthority(certificate=each.certificate, names=left))
    missing = sorted(set(names) - set(removed))
    if missing or not removed:
        raise BadInput(
            "certs trust --remove", found=f"no authority for {', '.join(missing) or 'it'}", todo="see `certs trust`"
        )
    return sorted(removed)


def objection(certificate: x509.Certificate, *, now: datetime) -> str | None:
    """Return why a site's authority cannot be trusted, or None. Pure.

    What it is limited to must be checked, or it is refused: OpenSSL checks name constraints on directory names, DNS
    names, addresses and e-mail; on URIs it knows hosts only, which a worker's identity has not.
    """
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        return (
            f"not valid now ({certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d})"
        )
    if not is_strong(certificate.public_key()):
        return "a key that is weak, or of another kind than P-256, P-384, Ed25519 or RSA of 2048 to 8192 bit"
    try:
        extensions = {each.oid: each for each in certificate.extensions}
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        return f"extensions that cannot be read ({exc})"
    basic = extensions.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage = extensions.get(ExtensionOID.KEY_USAGE)
    if basic is None or not basic.value.ca or (usage is not None and not usage.value.key_cert_sign):
        return "a certificate that may not sign others"
    unchecked = [each for each in extensions.values() if each.critical and each.oid not in _CHECKED]
    if unchecked:
        return f"a critical constraint that is not checked here ({unchecked[0].oid.dotted_string})"
    return _objection_to(extensions.get(ExtensionOID.NAME_CONSTRAINTS))


def _objection_to(constraints: x509.Extension[x509.ExtensionType] | None) -> str | None:
    if constraints is None:
        return None
    assert isinstance(constraints.value, x509.NameConstraints)
    limited = [*(constraints.value.permitted_subtrees or ()), *(constraints.value.excluded_subtrees or ())]
    odd = [each for each in limited if not isinstance(each, _CHECKED_BY_OPENSSL)]
    return f"name constraints of a kind that is not checked here ({type(odd[0]).__name__})" if odd else None


def _path(folder: Path, authority: TrustedAuthority) -> Path:
    return folder / _FOLDER / f"{authority.fingerprint[:16]}.json"


def _write(folder: Path, authority: TrustedAuthority) -> None:
    private_folder(folder / _FOLDER)
    document = {"names": list(authority.names), "certificate": pem_of([authority.certificate]).decode()}
    write_json(_path(folder, authority), document)


def _read(path: Path) -> TrustedAuthority:
    try:
        document = json.loads(path.read_bytes())
        certificate = x509.load_pem_x509_certificate(document["certificate"].encode())
        return TrustedAuthority(certificate=certificate, names=tuple(worker_name(each) for each in document["names"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, BadInput) as exc:
        raise CredentialError(
            f"trusted authority {path}", found="a record that cannot be read", todo="remove it, and use `certs trust`"
        ) from exc
