"""What `certs revoke` takes away, and that nothing gives it back by accident."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fednet.config import WorkerName
from fednet.errors import BadInput, Refused
from fednet.security.authority import Authority, open_authority, read_certificate
from fednet.security.enrolment import Credentials, Enroller, credentials_in, make_request
from fednet.security.identity import PeerIdentity, Role, identity_of
from fednet.security.loopback import LoopbackGrant
from fednet.security.renewal import Renewer
from fednet.security.revocation import RevocationLedger
from fednet.security.rotation import authorities_in
from fednet.security.tokens import TokenLedger
from tests.security.certs import DAY, NOW, authority_in, enrolled

NAME = WorkerName("client1")


def identity(credentials: Credentials) -> PeerIdentity:
    return identity_of(read_certificate(credentials.certificate_path).public_bytes(Encoding.DER))


def enrol(folder: Path, authority: Authority, secret: bytes, *, name: str = NAME) -> bytes:
    request = make_request(credentials_in(folder, WorkerName(name)))
    enroller = Enroller(authority, TokenLedger(folder), [])
    return enroller.enrol(name, secret, request, peer_address="192.0.2.1", now=NOW)


def test_a_revoked_name_loses_all_its_certificates_and_its_unused_tokens(tmp_path: Path) -> None:
    authority, ledger, tokens = authority_in(tmp_path), RevocationLedger(tmp_path), TokenLedger(tmp_path)
    own, other = identity(enrolled(tmp_path, NAME, authority)), identity(enrolled(tmp_path, "client2", authority))
    secret = tokens.issue(NAME, lifetime=DAY, now=NOW)
    done = ledger.revoke(NAME, reason=" laptop\nstolen ", now=NOW)
    assert (done.certificates, done.tokens, done.blocks_name) == ([own.fingerprint], 1, NAME)
    found = ledger.current()
    assert found.reason_for(own) == "laptop stolen"
    assert found.reason_for(other) is None
    assert {row.name: row.revoked for row in tokens.certificates()} == {NAME: "laptop stolen", "client2": ""}
    with pytest.raises(Refused, match="laptop stolen") as refused:
        enrol(tmp_path, authority, secret)
    assert refused.value.code == "token-revoked"


def test_a_new_token_lets_the_name_in_again_and_the_old_certificate_stays_revoked(tmp_path: Path) -> None:
    authority, ledger = authority_in(tmp_path), RevocationLedger(tmp_path)
    old = identity(enrolled(tmp_path, NAME, authority))
    ledger.revoke(NAME, reason="laptop stolen", now=NOW)
    new = identity_of(enrol(tmp_path, authority, TokenLedger(tmp_path).issue(NAME, lifetime=DAY, now=NOW)))
    assert ledger.current().reason_for(old) == "laptop stolen"
    assert ledger.current().reason_for(new) is None


def test_a_used_token_of_a_revoked_name_is_no_way_back(tmp_path: Path) -> None:
    authority, tokens = authority_in(tmp_path), TokenLedger(tmp_path)
    secret = tokens.issue(NAME, lifetime=DAY, now=NOW)
    enrol(tmp_path, authority, secret)
    RevocationLedger(tmp_path).revoke(NAME, reason="gone", now=NOW)
    tokens.issue(NAME, lifetime=DAY, now=NOW)
    with pytest.raises(Refused) as refused:
        enrol(tmp_path, authority, secret)
    assert refused.value.code == "token-revoked"


def test_one_certificate_is_revoked_by_its_fingerprint_as_openssl_prints_it(tmp_path: Path) -> None:
    authority, ledger = authority_in(tmp_path), RevocationLedger(tmp_path)
    old, new = identity(enrolled(tmp_path, NAME, authority)), identity(enrolled(tmp_path, NAME, authority))
    printed = ":".join(old.fingerprint[at : at + 2].upper() for at in range(0, 64, 2))
    done = ledger.revoke(printed, reason="key copied", now=NOW)
    assert (done.certificates, done.blocks_name) == ([old.fingerprint], None)
    assert ledger.current().reason_for(old) == "key copied"
    assert ledger.current().reason_for(new) is None


def test_the_last_certificate_of_a_name_takes_the_name_with_it(tmp_path: Path) -> None:
    authority, ledger = authority_in(tmp_path), RevocationLedger(tmp_path)
    own = identity(enrolled(tmp_path, NAME, authority))
    assert ledger.revoke(own.fingerprint, reason="key copied", now=NOW).blocks_name == NAME
    assert ledger.current().names == {NAME: "key copied"}


def test_an_open_token_keeps_the_name_when_its_old_certificate_is_revoked(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    own = identity(enrolled(tmp_path, NAME, authority))
    secret = TokenLedger(tmp_path).issue(NAME, lifetime=DAY, now=NOW)
    assert RevocationLedger(tmp_path).revoke(own.fingerprint, reason="key copied", now=NOW).blocks_name is None
    assert enrol(tmp_path, authority, secret)


def test_a_revoked_name_does_not_enrol_on_the_coordinators_own_machine(tmp_path: Path) -> None:
    authority, tokens = authority_in(tmp_path), TokenLedger(tmp_path)
    grant = LoopbackGrant(tmp_path, port=7733, authority_der=authority.certificate_der)
    enroller, request = Enroller(authority, tokens, [grant]), make_request(credentials_in(tmp_path, NAME))
    enroller.enrol(NAME, grant._secret, request, peer_address="127.0.0.1", now=NOW)
    RevocationLedger(tmp_path).revoke(NAME, reason="gone", now=NOW)
    with pytest.raises(Refused, match="gone") as refused:
        enroller.enrol(NAME, grant._secret, request, peer_address="127.0.0.1", now=NOW)
    assert refused.value.code == "revoked"
    assert len(tokens.certificates()) == 1


@pytest.mark.parametrize("by_name", [True, False])
def test_a_revoked_certificate_cannot_be_renewed_into_a_good_one(tmp_path: Path, by_name: bool) -> None:
    authority = authority_in(tmp_path)
    credentials = enrolled(tmp_path, NAME, authority)
    own = identity(credentials)
    enrolled(tmp_path, NAME, authority)  # so that the fingerprint alone does not take the name with it
    shown = read_certificate(credentials.certificate_path).public_bytes(Encoding.DER)
    RevocationLedger(tmp_path).revoke(NAME if by_name else identity_of(shown).fingerprint, reason="gone", now=NOW)
    renewer = Renewer(open_authority(tmp_path), authorities_in(tmp_path), TokenLedger(tmp_path))
    request = make_request(credentials_in(tmp_path / "new key", NAME))
    with pytest.raises(Refused, match="gone") as refused:
        renewer.renew(shown, request, now=NOW)
    assert refused.value.code == "revoked"
    assert len(TokenLedger(tmp_path).certificates()) == 2, own


def test_whatever_is_issued_while_a_name_is_revoked_is_revoked_or_not_issued(tmp_path: Path) -> None:
    authority, tokens, ledger = authority_in(tmp_path), TokenLedger(tmp_path), RevocationLedger(tmp_path)
    for number in range(8):
        name = WorkerName(f"client{number}")
        secret, together = tokens.issue(name, lifetime=DAY, now=NOW), Barrier(2)

        def issue(secret: bytes = secret, name: WorkerName = name, together: Barrier = together) -> bytes | None:
            request = make_request(credentials_in(tmp_path, name))
            together.wait()
            try:
                enroller = Enroller(authority, tokens, [])
                return enroller.enrol(name, secret, request, peer_address="192.0.2.1", now=NOW)
            except Refused:
                return None

        def revoke(name: WorkerName = name, together: Barrier = together) -> None:
            together.wait()
            ledger.revoke(name, reason="gone", now=NOW)

        with ThreadPoolExecutor(2) as pool:
            issued, done = pool.submit(issue), pool.submit(revoke)
            done.result()
            certificate = issued.result()
        tokens.issue(name, lifetime=DAY, now=NOW)  # the name may come back: only its fingerprint keeps the old one out
        if certificate is not None:
            assert ledger.current().reason_for(identity_of(certificate)) == "gone"


def test_the_first_reason_stays(tmp_path: Path) -> None:
    authority, ledger = authority_in(tmp_path), RevocationLedger(tmp_path)
    own = identity(enrolled(tmp_path, NAME, authority))
    ledger.revoke(NAME, reason="laptop stolen", now=NOW)
    assert ledger.revoke(NAME, reason="another", now=NOW).certificates == []
    assert ledger.current().reason_for(own) == "laptop stolen"


@pytest.mark.parametrize(
    ("subject", "reason", "complaint"),
    [
        ("nobody", "why", "name 'nobody'"),
        ("ab" * 32, "why", "certificate abab"),
        (NAME, " ", "0 characters"),
        (NAME, "x" * 301, "301 characters"),
        (NAME, "\x1b[2J", "cannot be printed"),
    ],
)
def test_what_cannot_be_revoked_is_refused_and_nothing_changes(
    tmp_path: Path, subject: str, reason: str, complaint: str
) -> None:
    enrolled(tmp_path, NAME, authority_in(tmp_path))
    ledger = RevocationLedger(tmp_path)
    with pytest.raises(BadInput, match=complaint.replace("[", "\\[")):
        ledger.revoke(subject, reason=reason, now=NOW)
    assert ledger.current().names == ledger.current().certificates == {}


def test_names_of_a_sites_own_authority_are_revoked_though_the_ledger_has_issued_nothing(tmp_path: Path) -> None:
    ledger, foreign = RevocationLedger(tmp_path), PeerIdentity(NAME, Role.WORKER, "cd" * 32, NOW + DAY)
    assert ledger.revoke(NAME, reason="gone", now=NOW, vouched=[NAME]).blocks_name == NAME
    assert ledger.current().reason_for(foreign) == "gone"
    ledger.let_in([NAME])
    assert ledger.current().reason_for(foreign) is None
    assert ledger.revoke("cd" * 32, reason="key copied", now=NOW, vouched=[NAME]).certificates == ["cd" * 32]
    assert ledger.current().reason_for(foreign) == "key copied"
