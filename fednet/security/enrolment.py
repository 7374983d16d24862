"""Enrolment: a worker makes its own key and asks for a certificate; the coordinator signs for a valid token."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from fednet.config import WorkerName, worker_name
from fednet.errors import CredentialError
from fednet.security.authority import Authority, public_key_of, read_certificate
from fednet.security.identity import identity_of, load_certificate
from fednet.security.keys import load_key, new_key, private_folder, save_key
from fednet.security.loopback import LoopbackGrant
from fednet.security.tokens import TokenLedger
from fednet.storage.atomic import write_bytes


@dataclass(frozen=True)
class Credentials:
    """A worker's files: its key, its certificate, and the authority it trusts."""

    name: WorkerName
    folder: Path

    @property
    def key_path(self) -> Path:
        """The private key; it never leaves this machine."""
        return self.folder / "key.pem"

    @property
    def certificate_path(self) -> Path:
        """The certificate that the coordinator signed."""
        return self.folder / "cert.pem"

    @property
    def authority_path(self) -> Path:
        """The only authority this worker trusts."""
        return self.folder / "ca.pem"


def credentials_in(folder: Path, name: WorkerName) -> Credentials:
    """Return where the credentials of `name` lie under the certificates' folder."""
    return Credentials(name, folder / "workers" / name)


def are_usable(credentials: Credentials, *, now: datetime) -> bool:
    """Whether key, certificate and authority belong together and are not expired; `CredentialError`: an unsafe key.

    Three files cannot be replaced at one moment. Where the program stopped between them they do not belong together
    (the key alone; a new authority, the certificate still the old one's), and the worker enrols again.
    """
    if not all(
        path.exists() for path in (credentials.key_path, credentials.certificate_path, credentials.authority_path)
    ):
        return False
    certificate = read_certificate(credentials.certificate_path)
    fits_key = certificate.public_key() == load_key(credentials.key_path).public_key()
    fits_authority = _is_issued_by(certificate, read_certificate(credentials.authority_path))
    return fits_key and fits_authority and certificate.not_valid_after_utc > now


def trusts(credentials: Credentials, authority_der: bytes) -> bool:
    """Whether these stored credentials belong to this authority."""
    if not credentials.authority_path.exists():
        return False
    return read_certificate(credentials.authority_path) == load_certificate(authority_der)


def make_request(credentials: Credentials) -> bytes:
    """Return a signing request, DER (RFC 2986), for the key in its place; a key is made where there is none."""
    if credentials.key_path.exists():
        key = load_key(credentials.key_path)
    else:
        key = new_key()
        private_folder(credentials.folder.parent)
        save_key(credentials.key_path, key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, credentials.name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def store_certificate(credentials: Credentials, certificate_der: bytes, authority_der: bytes) -> None:
    """Keep an issued certificate; raises `CredentialError` unless it is for our key, our name, by that authority."""
    certificate, authority = load_certificate(certificate_der), load_certificate(authority_der)
    if not _is_issued_by(certificate, authority):
        raise CredentialError("issued certificate", found="not signed by the token's authority")
    if certificate.public_key() != load_key(credentials.key_path).public_key():
        raise CredentialError(
            "issued certificate", found="another key in it", expected=f"the key of {credentials.name}"
        )
    if identity_of(certificate_der).name != credentials.name:
        raise CredentialError("issued certificate", found="another name in it", expected=credentials.name)
    write_bytes(credentials.authority_path, authority.public_bytes(serialization.Encoding.PEM))
    write_bytes(credentials.certificate_path, certificate.public_bytes(serialization.Encoding.PEM))


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


class Enroller:
    """Signs workers' requests at the coordinator. Thread-safe."""

    def __init__(self, authority: Authority, ledger: TokenLedger, grants: Sequence[LoopbackGrant]) -> None:
        self._authority = authority
        self._ledger = ledger
        self._grants = grants
        self._lock = threading.Lock()

    def enrol(self, name: str, secret: bytes, request_der: bytes, *, peer_address: str, now: datetime) -> bytes:
        """Return the certificate, DER. Raises `Refused` for the token, `CredentialError` for the request.

        The request is checked first, so that a bad one does not use up the token. Where the answer was lost, the same
        token and key get the same certificate again (see `TokenLedger.redeem`).
        """
        checked = worker_name(name)
        key = public_key_of(request_der).public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        with self._lock:
            if any(grant.accepts(secret, peer_address) for grant in self._grants):
                return self._sign(request_der, checked, redeemed=None, now=now)
            issued = self._ledger.redeem(secret, checked, key, now=now)
            return issued or self._sign(request_der, checked, redeemed=secret, now=now)

    def _sign(self, request_der: bytes, name: WorkerName, *, redeemed: bytes | None, now: datetime) -> bytes:
        certificate = self._authority.sign_worker(request_der, name, now=now)
        self._ledger.record(identity_of(certificate), certificate, redeemed=redeemed, now=now)
        return certificate
