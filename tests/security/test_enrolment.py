from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fednet.config import WorkerName
from fednet.errors import BadInput, CredentialError, Refused
from fednet.security.authority import create_authority, public_key_of
from fednet.security.enrolment import (
    Enroller,
    are_usable,
    credentials_in,
    make_request,
    store_certificate,
    trusts,
)
from fednet.security.loopback import LoopbackGrant
from fednet.security.tokens import TokenLedger
from tests.security.certs import DAY, NOW, authority_in, enrolled

NAME = WorkerName("client1")


def test_an_enrolled_worker_has_usable_credentials(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    credentials = enrolled(tmp_path, "client1", authority)
    assert are_usable(credentials, now=NOW)
    assert trusts(credentials, authority.certificate_der)
    assert not trusts(credentials, authority_in(tmp_path / "other").certificate_der)


def test_a_bad_request_does_not_use_up_the_token(tmp_path: Path) -> None:
    authority, ledger = authority_in(tmp_path), TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    enroller = Enroller(authority, ledger, [])
    with pytest.raises(CredentialError):
        enroller.enrol("client1", secret, b"garbage", peer_address="192.0.2.1", now=NOW)
    request = make_request(credentials_in(tmp_path, NAME))
    assert enroller.enrol("client1", secret, request, peer_address="192.0.2.1", now=NOW)


def test_a_lost_answer_is_given_again_and_is_the_same_certificate(tmp_path: Path) -> None:
    authority, ledger = authority_in(tmp_path), TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    request = make_request(credentials_in(tmp_path, NAME))
    enroller = Enroller(authority, ledger, [])
    lost = enroller.enrol("client1", secret, request, peer_address="192.0.2.1", now=NOW)
    assert enroller.enrol("client1", secret, request, peer_address="192.0.2.1", now=NOW + DAY / 2) == lost
    assert len(ledger.certificates()) == 1
    thief = make_request(credentials_in(tmp_path / "thief", NAME))
    with pytest.raises(Refused, match="used already"):
        enroller.enrol("client1", secret, thief, peer_address="192.0.2.1", now=NOW)


def test_a_coordinator_that_stopped_before_it_signed_signs_when_asked_again(tmp_path: Path) -> None:
    authority, ledger = authority_in(tmp_path), TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    request = make_request(credentials_in(tmp_path, NAME))
    key = public_key_of(request).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ledger.redeem(secret, NAME, key, now=NOW)
    assert Enroller(authority, ledger, []).enrol("client1", secret, request, peer_address="192.0.2.1", now=NOW)


def test_an_expired_authority_leaves_the_token_good_for_the_same_key(tmp_path: Path) -> None:
    ledger = TokenLedger(tmp_path)
    secret = ledger.issue(NAME, lifetime=DAY, now=NOW)
    request = make_request(credentials_in(tmp_path, NAME))
    expired = create_authority(tmp_path / "expired", now=NOW - 4000 * DAY)
    with pytest.raises(CredentialError, match="expired at"):
        Enroller(expired, ledger, []).enrol("client1", secret, request, peer_address="192.0.2.1", now=NOW)
    assert Enroller(authority_in(tmp_path), ledger, []).enrol(
        "client1", secret, request, peer_address="192.0.2.1", now=NOW
    )


def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path) -> None:
    enroller = Enroller(authority_in(tmp_path), TokenLedger(tmp_path), [])
    with pytest.raises(BadInput):
        enroller.enrol("../root", b"s", b"r", peer_address="192.0.2.1", now=NOW)


def test_the_loopback_secret_enrols_any_number_from_loopback_and_nobody_from_elsewhere(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    grant = LoopbackGrant(tmp_path, port=1, authority_der=authority.certificate_der)
    enroller = Enroller(authority, TokenLedger(tmp_path), [grant])
    for name in ("client1", "client2"):
        request = make_request(credentials_in(tmp_path, WorkerName(name)))
        assert enroller.enrol(name, grant._secret, request, peer_address="127.0.0.1", now=NOW)
        with pytest.raises(Refused):
            enroller.enrol(name, grant._secret, request, peer_address="192.0.2.1", now=NOW)


def test_a_certificate_of_somebody_else_is_not_stored(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    mine = credentials_in(tmp_path, NAME)
    request = make_request(mine)
    for_another_name = authority.sign_worker(request, WorkerName("client2"), now=NOW)
    with pytest.raises(CredentialError, match="another name"):
        store_certificate(mine, for_another_name, authority.certificate_der)
    other_authority = authority_in(tmp_path / "other")
    with pytest.raises(CredentialError, match="not signed"):
        store_certificate(mine, other_authority.sign_worker(request, NAME, now=NOW), authority.certificate_der)
    other_key = make_request(credentials_in(tmp_path / "other", NAME))
    with pytest.raises(CredentialError, match="another key"):
        store_certificate(mine, authority.sign_worker(other_key, NAME, now=NOW), authority.certificate_der)
    assert not are_usable(mine, now=NOW)


def test_a_worker_that_stopped_between_two_files_enrols_again(tmp_path: Path) -> None:
    """A new authority's ca.pem beside the old certificate, or any file missing, must not look enrolled."""
    credentials = enrolled(tmp_path, "client1", authority_in(tmp_path))
    theirs = authority_in(tmp_path / "other")
    ours = credentials.authority_path.read_bytes()
    credentials.authority_path.write_bytes((tmp_path / "other" / "authority" / "ca.pem").read_bytes())
    assert trusts(credentials, theirs.certificate_der)
    assert not are_usable(credentials, now=NOW)
    credentials.authority_path.write_bytes(ours)
    assert are_usable(credentials, now=NOW)
    for path in (credentials.authority_path, credentials.certificate_path, credentials.key_path):
        path.unlink()
        assert not are_usable(credentials, now=NOW)


def test_the_key_stays_the_same_over_requests_and_is_private(tmp_path: Path) -> None:
    credentials = credentials_in(tmp_path, NAME)
    make_request(credentials)
    before = credentials.key_path.read_bytes()
    make_request(credentials)
    assert credentials.key_path.read_bytes() == before
    assert credentials.key_path.stat().st_mode & 0o777 == 0o600
    for folder in (credentials.folder, credentials.folder.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_an_expired_certificate_is_not_usable(tmp_path: Path) -> None:
    credentials = enrolled(tmp_path, "client1", authority_in(tmp_path))
    assert not are_usable(credentials, now=NOW + 400 * DAY)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    credentials = enrolled(tmp_path, "client1", authority_in(tmp_path))
    credentials.key_path.chmod(0o640)
    with pytest.raises(CredentialError, match="others can read it"):
        are_usable(credentials, now=NOW)
