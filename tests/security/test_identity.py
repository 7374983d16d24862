from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fednet.errors import CredentialError
from fednet.security.authority import read_certificate
from fednet.security.identity import Role, identity_of
from tests.security.certs import authority_in, enrolled


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
