"""Enrolment: a worker makes its own key and asks for a certificate; the coordinator signs for a valid token."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fednet.config import WorkerName, worker_name
from fednet.errors import CredentialError
from fednet.security.authority import Authority, is_issued_by, public_key_of, read_certificate, read_certificates
from fednet.security.identity import Role, identity_of, load_certificate
from fednet.security.keys import load_key, locked, new_key, private_folder, save_key
from fednet.security.loopback import LoopbackGrant
from fednet.security.tokens import TokenLedger
from fednet.storage import disk
from fednet.storage.atomic import write_bytes


@dataclass(frozen=True, kw_only=True)
class GivenFiles:
    """A certificate of the site's own authority, with its key, and whom this site trusts; FedNet changes none."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Credentials:
    """A worker's files: its key, its certificate, and the authority it trusts."""

    name: WorkerName
    folder: Path
    given: GivenFiles | None = None  # in place of what lies in the folder

    @property
    def key_path(self) -> Path:
        """The private key; it never leaves this machine."""
        return self.given.key if self.given else self.folder / "key.pem"

    @property
    def certificate_path(self) -> Path:
        """The certificate that the coordinator signed."""
        return self.given.certificate if self.given else self.folder / "cert.pem"

    @property
    def authority_path(self) -> Path:
        """The only authority this worker trusts; while that one is being replaced, its successor too."""
        return self.given.authority if self.given else self.folder / "ca.pem"

    @property
    def staged_key_path(self) -> Path:
        """The key of a renewal that is under way."""
        return self.folder / "key.next.pem"

    @property
    def retired_path(self) -> Path:
        """Authorities that it trusted once: records that were signed in their time still verify."""
        return self.folder / "retired.pem"

    @property
    def vouched_path(self) -> Path:
        """By which each authority has vouched for the next one: its certificate by the one before (RFC 4210, 4.4)."""
        return self.folder / "vouched.pem"


def credentials_in(folder: Path, name: WorkerName, *, given: GivenFiles | None = None) -> Credentials:
    """Return where the credentials of `name` lie under the certificates' folder, if not in the `given` files."""
    return Credentials(name, folder / "workers" / name, given)


def are_usable(credentials: Credentials, *, now: datetime) -> bool:
    """Whether key, certificate and authority belong together and are not expired; `CredentialError`: an unsafe key.

    Three files cannot be replaced at one moment. Where the program stopped between them they do not belong together
    (the key alone; a new authority, the certificate still the old one's), and the worker enrols again.
    """
    if not all(
        path.exists() for path in (credentials.key_path, credentials.certificate_path, credentials.authority_path)
    ):
        return False
    with settled(credentials):
        certificate = read_certificate(credentials.certificate_path)
        fits_key = certificate.public_key() == load_key(credentials.key_path).public_key()
        authorities = read_certificates(credentials.authority_path)
    fits_authority = any(is_issued_by(certificate, each) for each in authorities)
    return fits_key and fits_authority and certificate.not_valid_after_utc > now


def ended_text(credentials: Credentials, *, now: datetime) -> str:
    """Return in words that the stored certificate has ended and cannot be renewed any more; "" if that is not so."""
    if not credentials.certificate_path.exists():
        return ""
    ends = read_certificate(credentials.certificate_path).not_valid_after_utc
    return f"one that expired at {ends:%Y-%m-%d %H:%M} UTC and cannot renew itself any more" if ends <= now else ""


def known_before(credentials: Credentials) -> list[x509.Certificate]:
    """Return authorities that these credentials trusted once, and what they have vouched for; `CredentialError`."""
    paths = () if credentials.given else (credentials.retired_path, credentials.vouched_path)
    return [each for path in paths if path.exists() for each in read_certificates(path)]


def trusts(credentials: Credentials, authority_der: bytes) -> bool:
    """Whether these stored credentials belong to this authority."""
    if not credentials.authority_path.exists():
        return False
    return load_certificate(authority_der) in read_certificates(credentials.authority_path)


@contextlib.contextmanager
def settled(credentials: Credentials) -> Iterator[None]:
    """Keep key and certificate together for as long as the block lasts; not to be nested.

    A renewal replaces two files, under this lock: the certificate first, which decides, then its key. Where it stopped
    between them the key is put into its place now.
    """
    if credentials.given is not None or not credentials.folder.is_dir():
        yield
        return
    with locked(credentials.folder):
        if credentials.staged_key_path.exists() and credentials.certificate_path.exists():
            take_staged_key(credentials)
        yield


def take_staged_key(credentials: Credentials) -> None:
    """Put the renewal's key into its place if the certificate is for it; only in a `settled` block."""
    staged = load_key(credentials.staged_key_path).public_key()
    if read_certificate(credentials.certificate_path).public_key() == staged:
        disk.rename(credentials.staged_key_path, credentials.key_path)
        disk.sync_folder(credentials.folder)


def make_request(credentials: Credentials) -> bytes:
    """Return a signing request, DER (RFC 2986), for the key in its place; a key is made where there is none."""
    if credentials.key_path.exists():
        key = load_key(credentials.key_path)
    else:
        key = new_key()
        private_folder(credentials.folder.parent)
        save_key(credentials.key_path, key)
    return request_for(key, credentials.name)


def request_for(key: ec.EllipticCurvePrivateKey, name: WorkerName) -> bytes:
    """Return a signing request, DER (RFC 2986), for this key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def store_certificate(credentials: Credentials, certificate_der: bytes, authority_der: bytes) -> None:
    """Keep an issued certificate; raises `CredentialError` unless it is for our key, our name, by that authority."""
    certificate, authority = load_certificate(certificate_der), load_certificate(authority_der)
    if not is_issued_by(certificate, authority):
        raise CredentialError("issued certificate", found="not signed by the token's authority")
    if certificate.public_key() != load_key(credentials.key_path).public_key():
        raise CredentialError(
            "issued certificate", found="another key in it", expected=f"the key of {credentials.name}"
        )
    if identity_of(certificate_der).name != credentials.name:
        raise CredentialError("issued certificate", found="another name in it", expected=credentials.name)
    write_bytes(credentials.authority_path, authority.public_bytes(serialization.Encoding.PEM))
    write_bytes(credentials.certificate_path, certificate.public_bytes(serialization.Encoding.PEM))


class Enroller:
    """Signs workers' requests at the coordinator. Thread-safe."""

    def __init__(self, authority: Authority, ledger: TokenLedger, grants: Sequence[LoopbackGrant]) -> None:
        self._authority = authority
        self._ledger = ledger
        self._grants = grants
        self._lock = threading.Lock()

    def sign_with(self, authority: Authority) -> None:
        """Sign from now on with another authority: one has replaced the other."""
        self._authority = authority

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
        role = Role.WORKER if redeemed is None else self._ledger.role_of(redeemed)
        certificate = self._authority.sign_worker(request_der, name, now=now, role=role)
        self._ledger.record(identity_of(certificate), certificate, redeemed=redeemed, now=now)
        return certificate
