from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fednet.config import WorkerName
from fednet.errors import CredentialError, Refused
from fednet.security import rotation
from fednet.security.authority import WORKER_DAYS, pem_of, read_certificate, read_certificates
from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import Credentials, are_usable, request_for
from fednet.security.identity import Role, identity_of, load_certificate
from fednet.security.keys import load_key, new_key
from fednet.security.renewal import OwnCertificate, Renewer, check_record, is_due
from fednet.security.rotation import authorities_in, signing_authority, trust_digest
from fednet.security.signing import RecordSigner, fingerprint_of
from fednet.security.tokens import TokenLedger
from fednet.storage import disk
from tests.security.certs import DAY, NOW, authority_in, enrolled, handshake

LATE = NOW  # what is renewed is shown in real handshakes, which look at the real clock
BEGAN = LATE - 25 * DAY


def joined(folder: Path, name: str = "client1") -> Credentials:
    """Enrol a worker when its certificate's last third is 25 days ahead."""
    return enrolled(folder, name, authority_in(folder, now=BEGAN), now=BEGAN)


def renewer_in(folder: Path) -> Renewer:
    return Renewer(signing_authority(folder), authorities_in(folder), TokenLedger(folder))


def own(credentials: Credentials, *, now: datetime = LATE) -> OwnCertificate:
    return OwnCertificate(credentials, lambda: now)


def shown(credentials: Credentials) -> bytes:
    return read_certificate(credentials.certificate_path).public_bytes(Encoding.DER)


def renewed(folder: Path, credentials: Credentials, *, now: datetime = LATE) -> datetime:
    """Renew by the front door."""
    certificate = own(credentials, now=now)
    answer = renewer_in(folder).renew(shown(credentials), certificate.request(), now=now)
    return certificate.store(answer.certificate, answer.authorities)


@pytest.mark.parametrize(
    ("days", "due"), [(0, False), (19.9, False), (20.1, True), (29.9, True), (30, False), (400, False)]
)
def test_a_certificate_is_due_in_the_last_third_of_its_life_and_not_after_it(
    tmp_path: Path, days: float, due: bool
) -> None:
    credentials = joined(tmp_path)
    assert WORKER_DAYS == 30
    assert is_due(read_certificate(credentials.certificate_path), now=BEGAN + days * DAY) is due


def test_a_worker_asks_when_it_is_due_or_when_the_coordinator_trusts_others(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    same = trust_digest(read_certificates(credentials.authority_path))
    early = own(credentials, now=BEGAN + DAY)
    assert early.request_due("") is None
    assert early.request_due(same) is None
    assert early.request_due("ab" * 32) is not None
    assert own(credentials).request_due(same) is not None
    assert own(credentials, now=BEGAN + 40 * DAY).request_due("ab" * 32) is None, "an expired one cannot be renewed"


def test_a_renewed_certificate_has_a_new_key_and_the_same_name_and_is_in_the_ledger(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    before, key = shown(credentials), credentials.key_path.read_bytes()
    ends = renewed(tmp_path, credentials)
    assert ends == (LATE + 30 * DAY).replace(microsecond=0)
    assert credentials.key_path.read_bytes() != key
    assert not credentials.staged_key_path.exists()
    assert credentials.key_path.stat().st_mode & 0o777 == 0o600
    identity = identity_of(shown(credentials))
    assert (identity.name, identity.role) == ("client1", Role.WORKER)
    assert {row.fingerprint for row in TokenLedger(tmp_path).certificates()} == {
        identity.fingerprint,
        identity_of(before).fingerprint,
    }
    assert are_usable(credentials, now=LATE)
    handshake(coordinator_context(tmp_path), worker_context(credentials))


def test_of_a_request_only_the_key_is_used(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    request = request_for(new_key(), WorkerName("client2"))
    answer = renewer_in(tmp_path).renew(shown(credentials), request, now=LATE)
    assert identity_of(answer.certificate).name == "client1"


def test_the_role_stays_what_it_is(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    observer = authority.sign_worker(
        request_for(new_key(), WorkerName("lab")), WorkerName("lab"), now=NOW, role=Role.OBSERVER
    )
    answer = renewer_in(tmp_path).renew(observer, request_for(new_key(), WorkerName("lab")), now=LATE)
    assert identity_of(answer.certificate).role is Role.OBSERVER


def test_what_is_not_renewed_is_refused_with_its_reason(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    stranger = joined(tmp_path / "other")
    renewer, fresh = renewer_in(tmp_path), request_for(new_key(), WorkerName("client1"))
    coordinator = read_certificate(tmp_path / "coordinator" / "cert.pem").public_bytes(Encoding.DER)
    old_key = request_for(load_key(credentials.key_path), WorkerName("client1"))
    for certificate, request, now, code in (
        (shown(credentials), fresh, NOW + 31 * DAY, "renewal-expired"),
        (shown(stranger), fresh, LATE, "renewal-authority"),
        (coordinator, fresh, LATE, "renewal-role"),
        (shown(credentials), old_key, LATE, "renewal-key"),
    ):
        with pytest.raises(Refused) as caught:
            renewer.renew(certificate, request, now=now)
        assert caught.value.code == code
    with pytest.raises(CredentialError, match="PKCS"):
        renewer.renew(shown(credentials), b"garbage", now=LATE)
    assert len(TokenLedger(tmp_path).certificates()) == 1


def test_a_certificate_that_is_not_for_our_request_is_not_stored(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    authority, renewer, certificate = authority_in(tmp_path), renewer_in(tmp_path), own(credentials)
    before = shown(credentials)
    told = authorities_in(tmp_path).told
    other_key = renewer.renew(before, request_for(new_key(), WorkerName("client1")), now=LATE).certificate
    other_name = authority.sign_worker(certificate.request(), WorkerName("client2"), now=LATE)
    theirs = authority_in(tmp_path / "other")
    forged = theirs.sign_worker(certificate.request(), WorkerName("client1"), now=LATE)
    for answer, authorities, complaint in (
        (other_key, told, "another key"),
        (forged, told, "not signed by an authority"),
        (forged, [theirs.certificate_der], "none known here has signed"),
    ):
        with pytest.raises(CredentialError, match=complaint):
            certificate.store(answer, authorities)
    other_name = authority.sign_worker(certificate.request(), WorkerName("client2"), now=LATE)
    with pytest.raises(CredentialError, match="client2 in it"):
        certificate.store(other_name, told)
    assert shown(credentials) == before
    assert are_usable(credentials, now=LATE)


class Stopped(Exception):
    """The process died here."""


def test_a_crash_at_any_write_of_a_renewal_leaves_a_pair_that_works(tmp_path: Path) -> None:
    """Before each operation of storing, in turn, the process dies; the pair that is left gets through the door."""
    seen = 0
    for dies_at in range(100):
        folder = tmp_path / str(dies_at)
        credentials = joined(folder)
        rotation.begin(folder, now=LATE)
        certificate = own(credentials)
        answer = renewer_in(folder).renew(shown(credentials), certificate.request(), now=LATE)
        before, done = shown(credentials), 0

        def die(operation: disk.Operation, dies_at: int = dies_at) -> None:
            nonlocal done
            done += 1
            if done > dies_at:
                raise Stopped

        try:
            with disk.watched(die):
                certificate.store(answer.certificate, answer.authorities)
            ended = True
        except Stopped:
            ended = False
        assert are_usable(credentials, now=LATE), f"unusable after {dies_at} operations"
        handshake(coordinator_context(folder), worker_context(credentials))
        assert shown(credentials) in (before, answer.certificate)
        seen += 1
        if ended:
            assert shown(credentials) == answer.certificate
            break
    assert seen > 6, "this test could not stop in the middle"


def test_a_renewal_whose_key_did_not_reach_its_place_is_completed(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    certificate = own(credentials)
    answer = renewer_in(tmp_path).renew(shown(credentials), certificate.request(), now=LATE)
    credentials.certificate_path.write_bytes(pem_of([load_certificate(answer.certificate)]))  # and then it died
    assert are_usable(credentials, now=LATE)
    assert not credentials.staged_key_path.exists()


def test_a_request_whose_answer_never_came_leaves_the_pair_as_it_is(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    before = credentials.key_path.read_bytes()
    own(credentials).request()
    assert are_usable(credentials, now=NOW)
    assert credentials.key_path.read_bytes() == before
    assert renewed(tmp_path, credentials) > LATE


def test_a_worker_goes_on_checking_records_over_a_change_of_authority(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    old = RecordSigner(tmp_path)
    rotation.begin(tmp_path, now=NOW)
    renewed(tmp_path, credentials, now=NOW + DAY)
    rotation.finish(tmp_path)
    authority_in(tmp_path)  # makes the coordinator's certificate anew
    renewed(tmp_path, credentials, now=NOW + 2 * DAY)
    assert [fingerprint_of(each) for each in read_certificates(credentials.authority_path)] == [
        fingerprint_of(authorities_in(tmp_path).current)
    ], "the old one is trusted for connections no more"
    new = RecordSigner(tmp_path)
    assert new.certificate_der != old.certificate_der
    for signer in (old, new):
        check_record(credentials, b"{}", signer.sign(b"{}"), signer.certificate_der)


def test_a_worker_renews_again_and_again_for_months(tmp_path: Path) -> None:
    credentials = joined(tmp_path)
    now = BEGAN
    for _ in range(12):
        now += timedelta(days=25)
        assert own(credentials, now=now).request_due("") is not None
        renewed(tmp_path, credentials, now=now)
    assert are_usable(credentials, now=now)
