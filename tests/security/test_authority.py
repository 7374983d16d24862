import contextlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fednet.config import WorkerName
from fednet.errors import CredentialError
from fednet.security import authority
from fednet.security.authority import (
    Authority,
    create_authority,
    hosts_of,
    open_authority,
    open_or_create_authority,
    public_key_of,
    read_certificate,
)
from fednet.security.identity import identity_of
from fednet.security.signing import RecordSigner
from fednet.storage.atomic import write_bytes
from tests.security.certs import DAY, NOW, authority_in


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, name: str = "liar") -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.DER)


def test_an_authority_is_opened_again(tmp_path: Path) -> None:
    made = create_authority(tmp_path, now=NOW)
    assert open_authority(tmp_path).certificate == made.certificate


def test_a_second_authority_never_replaces_the_first(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    with pytest.raises(CredentialError, match="exists already"):
        create_authority(tmp_path, now=NOW)


def test_of_authorities_made_at_once_one_is_kept_whole_and_all_get_it(tmp_path: Path) -> None:
    together = Barrier(8)

    def make(_: int) -> bytes:
        together.wait()
        return open_or_create_authority(tmp_path, now=NOW).certificate_der

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(make, range(8))) == {open_authority(tmp_path).certificate_der}
    assert [path.name for path in tmp_path.iterdir()] == ["authority"]


@pytest.mark.parametrize("lost", ["ca.pem", "ca.key"])
def test_what_is_left_of_an_authority_is_never_overwritten(tmp_path: Path, lost: str) -> None:
    create_authority(tmp_path, now=NOW)
    (tmp_path / "authority" / lost).unlink()
    (kept,) = (tmp_path / "authority").iterdir()
    before = kept.read_bytes()
    with pytest.raises(CredentialError, match=f"no {lost}"):
        open_or_create_authority(tmp_path, now=NOW)
    with pytest.raises(CredentialError, match="exists already"):
        create_authority(tmp_path, now=NOW)
    assert kept.read_bytes() == before


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    create_authority(tmp_path / "ours", now=NOW)
    create_authority(tmp_path / "theirs", now=NOW)
    (tmp_path / "theirs/authority/ca.key").replace(tmp_path / "ours/authority/ca.key")
    with pytest.raises(CredentialError, match=r"not ca\.pem's"):
        open_authority(tmp_path / "ours")


def test_an_expired_authority_signs_nothing_and_says_when_it_expired(tmp_path: Path) -> None:
    authority = create_authority(tmp_path, now=NOW - 4000 * DAY)
    with pytest.raises(CredentialError, match="expired at"):
        authority.sign_worker(request(ec.generate_private_key(ec.SECP256R1())), WorkerName("x"), now=NOW)


def test_no_authority_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="certs init"):
        open_authority(tmp_path)


def test_the_name_is_the_authoritys_not_the_requests(tmp_path: Path) -> None:
    authority = create_authority(tmp_path, now=NOW)
    certificate = authority.sign_worker(request(ec.generate_private_key(ec.SECP256R1())), WorkerName("good"), now=NOW)
    assert identity_of(certificate).name == "good"
    assert b"liar" not in certificate


def test_a_request_signed_by_another_key_is_refused(tmp_path: Path) -> None:
    good = bytearray(request(ec.generate_private_key(ec.SECP256R1())))
    good[-1] ^= 1
    with pytest.raises(CredentialError):
        create_authority(tmp_path, now=NOW).sign_worker(bytes(good), WorkerName("x"), now=NOW)


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(500)])
def test_garbage_is_no_request(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CredentialError):
        create_authority(tmp_path, now=NOW).sign_worker(data, WorkerName("x"), now=NOW)


def test_a_damaged_request_is_a_bad_request_or_still_for_the_same_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    good = request(key)
    chance = random.Random(0)
    for _ in range(2000):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        with contextlib.suppress(CredentialError):  # a few bits of DER are not signed and mean nothing
            assert public_key_of(bytes(bad)) == key.public_key()


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256K1()), ec.generate_private_key(ec.SECP521R1())])
def test_curves_that_tls_peers_may_not_know_are_refused(key: ec.EllipticCurvePrivateKey) -> None:
    with pytest.raises(CredentialError, match="P-256"):
        public_key_of(request(key))


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(public_exponent=65537, key_size=2048)]
)
def test_a_hospital_may_bring_another_strong_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    assert public_key_of(request(key)) == key.public_key()


def test_weak_keys_are_refused(tmp_path: Path) -> None:
    weak = request(rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505 - it must be refused
    with pytest.raises(CredentialError, match="P-256"):
        create_authority(tmp_path, now=NOW).sign_worker(weak, WorkerName("x"), now=NOW)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    authority_in(tmp_path)
    for path in (tmp_path / "authority" / "ca.key", tmp_path / "coordinator" / "key.pem"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    authority_in(tmp_path)
    (tmp_path / "authority" / "ca.key").chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        open_authority(tmp_path)


def test_the_coordinators_certificate_is_renewed_for_a_new_host_or_when_it_grows_old(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    path = tmp_path / "coordinator" / "cert.pem"
    first = read_certificate(path)
    authority.ensure_coordinator(["localhost"], now=NOW)
    assert read_certificate(path) == first
    authority.ensure_coordinator(["centre.example", "192.0.2.7"], now=NOW)
    second = read_certificate(path)
    names = second.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "centre.example" in names.get_values_for_type(x509.DNSName)
    authority.ensure_coordinator(["centre.example"], now=NOW + 350 * DAY)
    assert read_certificate(path) != second


@pytest.mark.parametrize("make", [Authority.make_coordinator, Authority.ensure_coordinator])
def test_two_that_make_the_coordinators_pair_at_once_leave_one_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., None]
) -> None:
    """The first has written its key when the second comes, and goes on when that is done, or waits for it."""
    ours, has_key, is_second_done = create_authority(tmp_path, now=NOW), Event(), Event()

    def write(path: Path, content: bytes) -> None:
        if not has_key.is_set():
            has_key.set()
            is_second_done.wait(1)
        write_bytes(path, content)

    monkeypatch.setattr(authority, "write_bytes", write)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(make, ours, ["one.example"], now=NOW)
        assert has_key.wait(20)
        second = pool.submit(make, ours, ["two.example"], now=NOW)
        second.add_done_callback(lambda _: is_second_done.set())
        first.result()
        second.result()
    RecordSigner(tmp_path)  # refuses a pair that does not fit
    assert "two.example" in hosts_of(read_certificate(tmp_path / "coordinator" / "cert.pem"))
