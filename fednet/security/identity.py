"""Who a peer is: its name and role as its certificate states them in a subject alternative name (RFC 5280)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from fednet.config import WorkerName, worker_name
from fednet.errors import BadInput, CredentialError

_URI_PREFIX = "urn:fednet:"


class Role(enum.Enum):
    """What a certificate may be used as."""

    WORKER = "worker"
    COORDINATOR = "coordinator"
    OBSERVER = "observer"  # connects as a worker does, to measure the way and nothing else


@dataclass(frozen=True)
class PeerIdentity:
    """What a verified certificate says of its owner."""

    name: WorkerName
    role: Role
    fingerprint: str  # SHA-256 of the DER, hex
    not_after: datetime  # UTC


def identity_uri(role: Role, name: WorkerName) -> str:
    """Return the URI that stands in the certificate of this owner."""
    return f"{_URI_PREFIX}{role.value}:{name}"


def identity_of(certificate_der: bytes) -> PeerIdentity:
    """Return the identity in a certificate that TLS has verified already.

    Raises `CredentialError` unless it names exactly one FedNet identity.
    """
    certificate = load_certificate(certificate_der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith(_URI_PREFIX)]
        role, name = uris[0].removeprefix(_URI_PREFIX).split(":", 1)
        identity = PeerIdentity(
            worker_name(name),
            Role(role),
            certificate.fingerprint(hashes.SHA256()).hex(),
            certificate.not_valid_after_utc,
        )
    except (x509.ExtensionNotFound, x509.DuplicateExtension, IndexError, ValueError, BadInput) as exc:
        raise CredentialError("certificate", found="no FedNet identity in it", todo="enrol with a token") from exc
    if len(uris) != 1:
        raise CredentialError("certificate", found=f"{len(uris)} FedNet identities in it", expected="one")
    return identity


def require_coordinator(certificate_der: bytes | None, *, host: str) -> None:
    """Raise `CredentialError` unless the certificate that a peer has shown is a coordinator's.

    TLS has checked who signed it, for which host, and that it may serve; whose it is stands in it besides.
    """
    role = identity_of(certificate_der).role if certificate_der else None
    if role is not Role.COORDINATOR:
        whose = {Role.WORKER: "a worker", Role.OBSERVER: "an observer", None: "nobody"}[role]
        raise CredentialError(
            f"coordinator at {host}",
            found=f"the certificate of {whose} there",
            expected="a coordinator's",
            todo="check the address: nobody else's certificate may serve as a coordinator's",
        )


def load_certificate(certificate_der: bytes) -> x509.Certificate:
    """Parse a DER certificate; raises `CredentialError`."""
    try:
        return x509.load_der_x509_certificate(certificate_der)
    except (ValueError, x509.InvalidVersion) as exc:
        raise CredentialError("certificate", found="bytes that are no X.509 certificate") from exc
