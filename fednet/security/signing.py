"""The coordinator's signature under its run's records, and its check by anybody who has the authority's certificate."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fednet.errors import AuditError, CredentialError
from fednet.security.authority import is_issued_by, read_certificate
from fednet.security.identity import Role, identity_of, load_certificate
from fednet.security.keys import load_key

_HASH = ec.ECDSA(hashes.SHA256())


class RecordSigner:
    """Signs with the key of the coordinator's certificate in `FOLDER/coordinator/`."""

    def __init__(self, certs: Path) -> None:
        folder = certs / "coordinator"
        self._key = load_key(folder / "key.pem")
        certificate = read_certificate(folder / "cert.pem")
        if certificate.public_key() != self._key.public_key():  # another process may be in the middle of replacing both
            raise CredentialError(f"certificate {folder / 'cert.pem'}", found="not of the key beside it")
        self.certificate_der = certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, header: bytes) -> bytes:
        """Return the signature of a header, DER (ECDSA, FIPS 186-5)."""
        return self._key.sign(header, _HASH)


class SignatureCheck:
    """Checks records against the authorities that the run's coordinator had, one after another where one was replaced.

    A certificate may have run out since: it was valid when it signed.
    """

    def __init__(self, *authorities: x509.Certificate) -> None:
        self._authorities = authorities
        self._trusted: dict[bytes, ec.EllipticCurvePublicKey] = {}

    def __call__(self, header: bytes, signature: bytes, certificate_der: bytes) -> None:
        """Raise `AuditError`, naming `certificate` or `signature`, unless a coordinator of ours signed the header."""
        key = self._trusted.get(certificate_der)
        if key is None:
            key = self._trusted[certificate_der] = self._coordinators_key(certificate_der)
        try:
            key.verify(signature, header, _HASH)
        except InvalidSignature as exc:
            raise AuditError("signature: not the coordinator's under this header") from exc

    def _coordinators_key(self, certificate_der: bytes) -> ec.EllipticCurvePublicKey:
        try:
            certificate = load_certificate(certificate_der)
            if not any(is_issued_by(certificate, authority) for authority in self._authorities):
                raise AuditError("certificate: not signed by this federation's authority")
            if identity_of(certificate_der).role is not Role.COORDINATOR:
                raise AuditError("certificate: not a coordinator's")
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm, CredentialError) as exc:
            raise AuditError("certificate: not signed by this federation's authority") from exc
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise AuditError("certificate: not a coordinator's")
        return key


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256, hex: what people compare over the telephone."""
    return certificate.fingerprint(hashes.SHA256()).hex()
