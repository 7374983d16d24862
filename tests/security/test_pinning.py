from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fednet.errors import CredentialError
from fednet.security.authority import Authority, create_authority, read_certificate
from fednet.security.keys import load_key
from fednet.security.pinning import Pins
from fednet.security.signing import fingerprint_of
from tests.security.certs import NOW, authority_in, enrolled


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    ours, other = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("other")
    for folder in (ours, other):
        create_authority(folder, now=NOW).ensure_coordinator([], now=NOW)
    return ours, other


def require(pins: Pins, shown: Path, *trusted: Path) -> None:
    certificate = read_certificate(shown / "coordinator" / "cert.pem")
    authorities = [read_certificate(folder / "authority" / "ca.pem") for folder in trusted]
    pins.require(certificate.public_bytes(Encoding.DER), authorities)


def authority_of(folder: Path) -> frozenset[str]:
    return frozenset({fingerprint_of(read_certificate(folder / "authority" / "ca.pem"))})


def coordinator_of(folder: Path) -> frozenset[str]:
    return frozenset({fingerprint_of(read_certificate(folder / "coordinator" / "cert.pem"))})


def test_a_coordinator_that_was_agreed_to_is_talked_to(folders: tuple[Path, Path]) -> None:
    ours, other = folders
    require(Pins(authority_of(ours)), ours, ours)
    require(Pins(authority_of(ours)), ours, other, ours)
    require(Pins(authority_of(ours) | authority_of(other), coordinator_of(ours)), ours, ours)
    require(Pins(), other, ours)


def test_one_of_another_authority_is_not_whatever_else_is_trusted(folders: tuple[Path, Path]) -> None:
    ours, other = folders
    with pytest.raises(CredentialError, match=f"authority; found SHA-256 {next(iter(authority_of(other)))}"):
        require(Pins(authority_of(ours)), other, other, ours)


def test_another_coordinator_of_the_same_authority_is_not(folders: tuple[Path, Path]) -> None:
    ours, other = folders
    with pytest.raises(CredentialError, match="coordinator's certificate; found SHA-256"):
        require(Pins(authority_of(ours), coordinator_of(other)), ours, ours)


def test_a_workers_certificate_by_the_named_authority_vouches_for_nobody(tmp_path: Path) -> None:
    """Else a hospital with its own certificate could set up a coordinator that another hospital takes for the one."""
    ours = authority_in(tmp_path)
    worker = enrolled(tmp_path, "client1", ours)
    leaf, key = read_certificate(worker.certificate_path), load_key(worker.key_path)
    fake = Authority(tmp_path / "fake", leaf, key)
    fake.make_coordinator([], now=NOW)
    shown = read_certificate(tmp_path / "fake" / "coordinator" / "cert.pem").public_bytes(Encoding.DER)
    pins = Pins(frozenset({fingerprint_of(ours.certificate)}))
    with pytest.raises(CredentialError, match="coordinator's authority"):
        pins.require(shown, [ours.certificate], before=[leaf])


def test_one_that_shows_no_certificate_is_not(folders: tuple[Path, Path]) -> None:
    with pytest.raises(CredentialError, match="no certificate"):
        Pins(authority_of(folders[0])).require(None, [])
