from pathlib import Path

import pytest

from fednet.errors import AuditError
from fednet.security.authority import read_certificate
from fednet.security.signing import RecordSigner, SignatureCheck, fingerprint_of
from tests.security.certs import authority_in, enrolled

HEADER = b'{"round":1}'


def check_of(folder: Path) -> SignatureCheck:
    return SignatureCheck(read_certificate(folder / "authority" / "ca.pem"))


def test_what_the_coordinator_signs_is_checked_with_the_authoritys_certificate_alone(tmp_path: Path) -> None:
    authority_in(tmp_path)
    signer = RecordSigner(tmp_path)
    check_of(tmp_path)(HEADER, signer.sign(HEADER), signer.certificate_der)


def test_a_changed_header_or_signature_is_seen(tmp_path: Path) -> None:
    authority_in(tmp_path)
    signer, check = RecordSigner(tmp_path), check_of(tmp_path)
    signature = signer.sign(HEADER)
    changed = signature[:-1] + bytes([signature[-1] ^ 1])
    for header, signed in ((HEADER + b" ", signature), (HEADER, changed), (HEADER, b"")):
        with pytest.raises(AuditError, match="signature"):
            check(header, signed, signer.certificate_der)


def test_another_authoritys_coordinator_does_not_count(tmp_path: Path) -> None:
    authority_in(tmp_path / "ours")
    authority_in(tmp_path / "theirs")
    theirs = RecordSigner(tmp_path / "theirs")
    with pytest.raises(AuditError, match="certificate: not signed by this federation's authority"):
        check_of(tmp_path / "ours")(HEADER, theirs.sign(HEADER), theirs.certificate_der)


def test_a_hospital_cannot_sign_for_the_coordinator(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    credentials = enrolled(tmp_path, "client1", authority)
    folder = tmp_path / "other" / "coordinator"
    folder.mkdir(parents=True, mode=0o700)
    for name in ("key.pem", "cert.pem"):
        (folder / name).write_bytes((credentials.folder / name).read_bytes())
        (folder / name).chmod(0o600)
    hospital = RecordSigner(tmp_path / "other")
    with pytest.raises(AuditError, match="certificate: not a coordinator's"):
        check_of(tmp_path)(HEADER, hospital.sign(HEADER), hospital.certificate_der)


@pytest.mark.parametrize("certificate", [b"", b"no certificate"])
def test_what_is_no_certificate_is_said(tmp_path: Path, certificate: bytes) -> None:
    authority_in(tmp_path)
    with pytest.raises(AuditError, match="certificate"):
        check_of(tmp_path)(HEADER, b"", certificate)


def test_a_fingerprint_is_the_digest_of_the_certificate(tmp_path: Path) -> None:
    authority_in(tmp_path)
    assert len(fingerprint_of(read_certificate(tmp_path / "authority" / "ca.pem"))) == 64
