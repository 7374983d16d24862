"""The run's own certificate authority: signs the coordinator's certificate and the workers' (RFC 5280, EC P-256)."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeGuard

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fednet.config import WorkerName
from fednet.errors import CredentialError
from fednet.security.identity import Role, identity_uri
from fednet.security.keys import load_key, locked, new_key, private_folder, save_key
from fednet.security.passphrase import require_strong
from fednet.storage.atomic import write_bytes
from fednet.storage.disk import remove_folder, storage_error, sync_folder

AUTHORITY_DAYS = 3650
COORDINATOR_DAYS = 365
WORKER_DAYS = 30  # a worker renews in the last third (security.renewal)
_CLOCK_SKEW = timedelta(hours=1)  # a hospital's clock may be behind the coordinator's
RENEW_BEFORE = timedelta(days=30)
HOME, NEXT = "authority", "authority/next"  # where an authority lies in the certificates' folder, and its successor
CROSS = "cross.pem"  # in NEXT: the successor's certificate by the present authority
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class Authority:
    """Signs certificates for one federation. Lives in `FOLDER/authority/`; its key never leaves it."""

    def __init__(
        self,
        folder: Path,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        *,
        passphrase: bytes | None = None,
    ) -> None:
        self._folder = folder
        self.certificate = certificate
        self._key = key
        self.passphrase = passphrase  # of the key's file; its successor's gets the same

    @property
    def certificate_der(self) -> bytes:
        """The authority's own certificate, which tokens carry."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def sign_worker(
        self, request_der: bytes, name: WorkerName, *, now: datetime, days: int = WORKER_DAYS, role: Role = Role.WORKER
    ) -> bytes:
        """Return the certificate, DER, of one that connects to a coordinator, for the key of a signing request.

        Of the request only the key is used: the name is the caller's. Raises `CredentialError` when the request is
        not signed by its key, or the key is too weak.
        """
        key = public_key_of(request_der)
        certificate = self._sign(
            key,
            common_name=name,
            alternative_names=[x509.UniformResourceIdentifier(identity_uri(role, name))],
            usage=ExtendedKeyUsageOID.CLIENT_AUTH,
            now=now,
            days=days,
        )
        return certificate.public_bytes(serialization.Encoding.DER)

    def ensure_coordinator(self, hosts: Sequence[str], *, now: datetime) -> None:
        """Make `FOLDER/coordinator/{cert.pem,key.pem}` valid for this machine and `hosts` (names or addresses)."""
        with self._coordinators() as folder:
            if not self._covers(folder / "cert.pem", [*LOCAL_HOSTS, *hosts], now):
                self._make_pair(folder, hosts, now)

    def make_coordinator(self, hosts: Sequence[str], *, now: datetime) -> None:
        """Make them anew, with a new key, whatever is there. A crash between the two files: both are made at start."""
        with self._coordinators() as folder:
            self._make_pair(folder, hosts, now)

    @contextlib.contextmanager
    def _coordinators(self) -> Iterator[Path]:
        """Yield the coordinator's folder: of several that make key and certificate at once, one after another does."""
        folder = self._folder / "coordinator"
        private_folder(folder)
        with locked(folder):
            yield folder

    def _make_pair(self, folder: Path, hosts: Sequence[str], now: datetime) -> None:
        wanted = list(dict.fromkeys([*LOCAL_HOSTS, *hosts]))
        key = new_key()
        certificate = self._sign(
            key.public_key(),
            common_name="coordinator",
            alternative_names=[
                x509.UniformResourceIdentifier(identity_uri(Role.COORDINATOR, WorkerName("coordinator"))),
                *(_host_name(host) for host in wanted),
            ],
            usage=ExtendedKeyUsageOID.SERVER_AUTH,
            now=now,
            days=COORDINATOR_DAYS,
        )
        save_key(folder / "key.pem", key)
        write_bytes(folder / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM))

    def certify_successor(self, successor: x509.Certificate, *, now: datetime) -> x509.Certificate:
        """Return the next authority's key and name, signed by this one: newWithOld of RFC 4210, section 4.4."""
        key = successor.public_key()
        assert isinstance(key, PublicKey), "an authority of ours"
        last = min(successor.not_valid_after_utc, self.certificate.not_valid_after_utc)
        return (
            _builder(None, self.certificate.subject, key, now, last, subject=successor.subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _covers(self, path: Path, hosts: Sequence[str], now: datetime) -> bool:
        if not path.exists() or not path.with_name("key.pem").exists():
            return False
        certificate = read_certificate(path)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        is_ours = is_issued_by(certificate, self.certificate)
        is_fresh = certificate.not_valid_after_utc - now > RENEW_BEFORE
        fits_key = certificate.public_key() == load_key(path.with_name("key.pem")).public_key()
        return is_ours and is_fresh and fits_key and all(_host_name(host) in names for host in hosts)

    def _sign(
        self,
        key: PublicKey,
        *,
        common_name: str,
        alternative_names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime,
        days: int,
    ) -> x509.Certificate:
        if self.certificate.not_valid_after_utc <= now:
            raise CredentialError(
                "certificate authority",
                found=f"expired at {self.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                todo="check this machine's clock, or make a new authority and enrol every hospital again",
            )
        last = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        return (
            _builder(common_name, self.certificate.subject, key, now, last)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def has_authority(folder: Path) -> bool:
    """Whether an authority has been made in `folder`."""
    return (folder / HOME / "ca.pem").exists()


def create_authority(folder: Path, *, now: datetime, passphrase: bytes | None = None) -> Authority:
    """Make a new authority in `folder`, its key encrypted by a passphrase; raises `CredentialError` when there is one.

    Also for a passphrase that is too short; nothing is written then.
    """
    if not _make_authority(folder, now=now, passphrase=passphrase):
        raise CredentialError(
            f"authority {folder / HOME}", found="one that exists already", todo="use it, or another --certs"
        )
    return open_authority(folder, passphrase=passphrase)


def open_authority(folder: Path, *, place: str = HOME, passphrase: bytes | None = None) -> Authority:
    """Return the authority in `folder`; raises `CredentialError` when there is none, or only a part of one.

    And where its key is encrypted by another passphrase, or by none.
    """
    home = folder / place
    missing = [name for name in ("ca.pem", "ca.key") if not (home / name).exists()]
    if len(missing) == 2:
        raise CredentialError(
            f"authority {home}", found="nothing there", todo="run `cli.py certs init`, or start a coordinator once"
        )
    if missing:
        raise CredentialError(f"authority {home}", found=f"no {missing[0]}", todo="bring it back from your copy")
    certificate, key = read_certificate(home / "ca.pem"), load_key(home / "ca.key", passphrase=passphrase)
    successor = folder / NEXT / "ca.pem"
    if place == HOME and successor.exists() and read_certificate(successor).public_key() == key.public_key():
        certificate = _succeed(successor, home)
    if certificate.public_key() != key.public_key():
        raise CredentialError(
            f"authority {home}", found="a ca.key that is not ca.pem's", todo="bring both back from your copy"
        )
    return Authority(folder, certificate, key, passphrase=passphrase)


def _succeed(successor: Path, home: Path) -> x509.Certificate:
    """Complete a change-over of which the key's rename is done (rotation.finish): the certificate follows its key."""
    try:
        write_bytes(home / "ca.pem", successor.read_bytes())
    except FileNotFoundError:
        return read_certificate(home / "ca.pem")  # another process has just completed it
    remove_folder(successor.parent)
    return read_certificate(home / "ca.pem")


def open_or_create_authority(folder: Path, *, now: datetime, passphrase: bytes | None = None) -> Authority:
    """Return the authority in `folder`, made now where there is none; of several at once, all get the same."""
    if not has_authority(folder):
        _make_authority(folder, now=now, passphrase=passphrase)
    return open_authority(folder, passphrase=passphrase)


def make_successor(authority: Authority, folder: Path, *, now: datetime) -> bool:
    """Put the next authority beside this one, with its cross-certificate; return False where there is one already."""
    return _make_authority(folder, now=now, place=NEXT, predecessor=authority, passphrase=authority.passphrase)


def _make_authority(
    folder: Path,
    *,
    now: datetime,
    place: str = HOME,
    predecessor: Authority | None = None,
    passphrase: bytes | None = None,
) -> bool:
    """Put a new authority into `folder`; return False, with nothing changed, where there is something of one.

    Key and certificate come into place together, by renaming their folder, which fails where files lie already: two
    coordinators that start at once never mix theirs, and a key is never overwritten.
    """
    if passphrase is not None:
        require_strong(passphrase)
    key = new_key()
    certificate = _authority_certificate(key, now)
    private_folder(folder)
    home = folder / place
    unfinished = home.with_name(f".{home.name}.{secrets.token_hex(4)}.tmp")
    try:
        save_key(unfinished / "ca.key", key, passphrase=passphrase)
        write_bytes(unfinished / "ca.pem", pem_of([certificate]))
        if predecessor is not None:
            write_bytes(unfinished / CROSS, pem_of([predecessor.certify_successor(certificate, now=now)]))
        unfinished.rename(home)
        sync_folder(home.parent)
    except OSError as exc:
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise storage_error(home, exc) from exc
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return True


def _authority_certificate(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"FedNet authority {serial:x}"[:40])])
    return (
        _builder(None, name, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS), subject=name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def read_certificate(path: Path) -> x509.Certificate:
    """Return the PEM certificate in `path`; raises `CredentialError`."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError, x509.InvalidVersion) as exc:
        raise CredentialError(f"certificate {path}", found="a file that is no PEM certificate") from exc


def read_certificates(path: Path) -> list[x509.Certificate]:
    """Return all PEM certificates in `path`, at least one; raises `CredentialError`."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError, x509.InvalidVersion) as exc:
        raise CredentialError(f"certificate {path}", found="a file that is no PEM certificate") from exc


def pem_of(certificates: Iterable[x509.Certificate]) -> bytes:
    """Return them one after another, as a file that OpenSSL reads."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether this authority itself, none beneath it, has signed the certificate: by its name and its key."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names, then the addresses, that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)]


def public_key_of(request_der: bytes) -> PublicKey:
    """Return the key of a signing request that is signed by it and strong enough; raises `CredentialError`.

    Anybody who reaches the port may send the bytes, so every way they can be malformed ends in that one error.
    """
    try:
        request = x509.load_der_x509_csr(request_der)
        key = request.public_key()
        if not is_strong(key):
            raise CredentialError(
                "signing request",
                found="another kind of key",
                expected="P-256, P-384, Ed25519 or RSA of 2048 to 8192 bit",
            )
        is_signed = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        raise CredentialError("signing request", found="bytes that are no PKCS #10 request") from exc
    if not is_signed:
        raise CredentialError("signing request", found="a signature that is not by its own key")
    return key


def is_strong(key: object) -> TypeGuard[PublicKey]:
    """Whether this is a public key of a kind and size that is accepted here."""
    if not isinstance(key, PublicKey):
        return False
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.curve.name in ("secp256r1", "secp384r1")
    return not isinstance(key, rsa.RSAPublicKey) or 2048 <= key.key_size <= 8192


def _builder(
    common_name: str | None,
    issuer: x509.Name,
    key: PublicKey,
    now: datetime,
    last: datetime,
    *,
    subject: x509.Name | None = None,
) -> x509.CertificateBuilder:
    own_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or "")]) if subject is None else subject
    return (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(last)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as exc:
        raise CredentialError(f"host {host!r}", found="neither a name nor an address") from exc
