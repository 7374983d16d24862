import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fednet.errors import CredentialError
from fednet.security import rotation
from fednet.security.authority import (
    create_authority,
    is_issued_by,
    open_authority,
    read_certificate,
    read_certificates,
)
from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import Credentials, are_usable
from fednet.security.keys import load_key
from fednet.security.renewal import OwnCertificate, Renewer
from fednet.security.rotation import authorities_in, laggards, signing_authority, trust_digest, vouched
from fednet.security.signing import RecordSigner, SignatureCheck
from fednet.security.tokens import TokenLedger
from fednet.storage import disk
from tests.security.certs import DAY, NOW, authority_in, enrolled, handshake


def renew(folder: Path, credentials: Credentials) -> None:
    renewer = Renewer(signing_authority(folder), authorities_in(folder), TokenLedger(folder))
    own = OwnCertificate(credentials, lambda: NOW)
    shown = read_certificate(credentials.certificate_path).public_bytes(Encoding.DER)
    answer = renewer.renew(shown, own.request(), now=NOW)
    own.store(answer.certificate, answer.authorities)


def show(folder: Path, credentials: Credentials) -> None:
    """Let the coordinator see that the worker has it: it has connected."""
    renewer = Renewer(signing_authority(folder), authorities_in(folder), TokenLedger(folder))
    renewer.note_shown(read_certificate(credentials.certificate_path).public_bytes(Encoding.DER), now=NOW)


def behind(folder: Path) -> list[str]:
    successor = authorities_in(folder).successor
    assert successor is not None
    return laggards(TokenLedger(folder).certificates(), successor, now=NOW)


def test_a_change_over_from_beginning_to_end(tmp_path: Path) -> None:
    """Workers that have renewed and workers that have not get in until the end, and the former after it."""
    authority = authority_in(tmp_path)
    quick, slow = enrolled(tmp_path, "client1", authority), enrolled(tmp_path, "client2", authority)
    old = authorities_in(tmp_path)
    assert old.trusted == [authority.certificate]

    rotation.begin(tmp_path, now=NOW)
    during = authorities_in(tmp_path)
    assert during.successor is not None and during.cross is not None
    assert is_issued_by(during.cross, old.current)
    assert during.cross.public_key() == during.successor.public_key()
    assert trust_digest(during.trusted) != trust_digest(old.trusted)
    renew(tmp_path, quick)
    assert is_issued_by(read_certificate(quick.certificate_path), during.successor)
    assert set(read_certificates(quick.authority_path)) == set(during.trusted)
    assert behind(tmp_path) == ["client1", "client2"], "what was signed may never have arrived"
    for each in (quick, slow):
        show(tmp_path, each)
    assert behind(tmp_path) == ["client2"]
    open_authority(tmp_path).ensure_coordinator([], now=NOW)
    for worker in (quick, slow):
        handshake(coordinator_context(tmp_path), worker_context(worker))

    rotation.finish(tmp_path)
    after = authorities_in(tmp_path)
    assert (after.current, after.successor, after.retired) == (during.successor, None, (old.current,))
    assert not (tmp_path / "authority" / "next").exists()
    open_authority(tmp_path).ensure_coordinator([], now=NOW)
    handshake(coordinator_context(tmp_path), worker_context(quick))
    with pytest.raises(ssl.SSLError):
        handshake(coordinator_context(tmp_path), worker_context(slow))
    assert set(read_certificates(quick.authority_path)) == set(during.trusted)
    renew(tmp_path, quick)
    assert read_certificates(quick.authority_path) == [after.current]
    assert read_certificates(quick.retired_path) == [old.current]
    assert are_usable(quick, now=NOW)


def test_records_of_a_run_that_spans_the_change_over_verify(tmp_path: Path) -> None:
    authority_in(tmp_path)
    before = RecordSigner(tmp_path)
    rotation.begin(tmp_path, now=NOW)
    rotation.finish(tmp_path)
    authority_in(tmp_path)
    after = RecordSigner(tmp_path)
    found = authorities_in(tmp_path)
    check = SignatureCheck(*found.trusted, *found.retired)
    for signer in (before, after):
        check(b"{}", signer.sign(b"{}"), signer.certificate_der)


def test_a_certificate_that_ended_or_was_revoked_holds_nobody_up(tmp_path: Path) -> None:
    authority = authority_in(tmp_path, now=NOW - 40 * DAY)
    enrolled(tmp_path, "client1", authority, now=NOW - 40 * DAY)
    rotation.begin(tmp_path, now=NOW)
    assert behind(tmp_path) == []


def test_a_change_over_begins_once_and_ends_only_if_it_began(tmp_path: Path) -> None:
    authority_in(tmp_path)
    with pytest.raises(CredentialError, match="no change-over"):
        rotation.finish(tmp_path)
    rotation.begin(tmp_path, now=NOW)
    before = authorities_in(tmp_path)
    with pytest.raises(CredentialError, match="begun already"):
        rotation.begin(tmp_path, now=NOW)
    assert authorities_in(tmp_path) == before


class Stopped(Exception):
    """The process died here."""


@pytest.mark.parametrize("act", [lambda folder: rotation.begin(folder, now=NOW), rotation.finish])
def test_a_crash_anywhere_leaves_an_authority_that_opens(tmp_path: Path, act: object) -> None:
    assert callable(act)
    for dies_at in range(100):
        folder = tmp_path / str(dies_at)
        authority = authority_in(folder)
        if act is rotation.finish:
            rotation.begin(folder, now=NOW)
        whole = set(authorities_in(folder).trusted)
        done = 0

        def die(operation: disk.Operation, dies_at: int = dies_at) -> None:
            nonlocal done
            done += 1
            if done > dies_at:
                raise Stopped

        try:
            with disk.watched(die):
                act(folder)
            ended = True
        except Stopped:
            ended = False
        opened = open_authority(folder)
        found = authorities_in(folder)
        assert opened.certificate == found.current
        assert authority.certificate in (found.current, *found.retired)
        assert found.current in whole
        if ended:
            break
    assert dies_at > 5, "this test could not stop in the middle"


def test_an_authority_that_nobody_known_vouches_for_is_refused(tmp_path: Path) -> None:
    authority_in(tmp_path)
    rotation.begin(tmp_path, now=NOW)
    ours = authorities_in(tmp_path)
    stranger = create_authority(tmp_path / "other", now=NOW)
    assert ours.successor is not None
    assert vouched(ours.told, [ours.current]) == (ours.trusted, [ours.cross])
    without_proof = ours.told[:2]
    self_vouched = [*ours.told[:1], stranger.certificate_der, _der(stranger.certify_successor(ours.current, now=NOW))]
    for told in (without_proof, self_vouched, [stranger.certificate_der, ours.told[2]]):
        with pytest.raises(CredentialError, match="none known here has signed"):
            vouched(told, [ours.current])


def test_a_worker_certificate_is_no_proof_for_an_authority(tmp_path: Path) -> None:
    """A hospital has a certificate by the authority: with its key and name it must not pass for the next one."""
    authority = authority_in(tmp_path)
    worker = enrolled(tmp_path, "client1", authority)
    leaf = read_certificate(worker.certificate_path)
    fake = (
        x509.CertificateBuilder(leaf.subject, leaf.subject)
        .public_key(leaf.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(load_key(worker.key_path), hashes.SHA256())
    )
    with pytest.raises(CredentialError, match="none known here has signed"):
        vouched([authority.certificate_der, _der(fake), _der(leaf)], [authority.certificate])


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
