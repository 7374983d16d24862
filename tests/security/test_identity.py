from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fednet.config import WorkerName
from fednet.errors import CredentialError
from fednet.security.authority import read_certificate
from fednet.security.enrolment import credentials_in, make_request
from fednet.security.identity import Role, identity_of, require_coordinator
from tests.security.certs import NOW, authority_in, enrolled


def der(path: Path) -> bytes:
    return read_certificate(path).public_bytes(serialization.Encoding.DER)


def test_roles_are_told_apart(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    worker = identity_of(der(enrolled(tmp_path, "hospital-a", authority).certificate_path))
    assert (worker.name, worker.role, len(worker.fingerprint)) == ("hospital-a", Role.WORKER, 64)
    assert identity_of(der(tmp_path / "coordinator" / "cert.pem")).role is Role.COORDINATOR


def test_a_certificate_without_a_fednet_name_is_nobodys(tmp_path: Path) -> None:
    with pytest.raises(CredentialError):
        identity_of(authority_in(tmp_path).certificate_der)


def test_garbage_is_no_certificate() -> None:
    with pytest.raises(CredentialError):
        identity_of(b"garbage")


@pytest.mark.parametrize(
    ("role", "article"), [(Role.WORKER, "a worker"), (Role.OBSERVER, "an observer")], ids=["worker", "observer"]
)
def test_only_a_coordinators_certificate_may_be_a_coordinators(tmp_path: Path, role: Role, article: str) -> None:
    authority = authority_in(tmp_path)
    require_coordinator(der(tmp_path / "coordinator" / "cert.pem"), host="centre.example")
    request = make_request(credentials_in(tmp_path, WorkerName("client1")))
    certificate = authority.sign_worker(request, WorkerName("client1"), now=NOW, role=role)
    with pytest.raises(CredentialError, match=rf"centre\.example; found the certificate of {article} there"):
        require_coordinator(certificate, host="centre.example")


def test_nobodys_certificate_is_no_coordinators() -> None:
    with pytest.raises(CredentialError, match="nobody"):
        require_coordinator(None, host="centre.example")
