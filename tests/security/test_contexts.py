import ssl
from pathlib import Path

import pytest

from fednet.errors import CredentialError
from fednet.security.contexts import coordinator_context, enrolment_context, explain_tls_failure, worker_context
from fednet.security.identity import Role, identity_of
from tests.security.certs import DAY, NOW, authority_in, enrolled, handshake, handshake_of_both


def test_an_enrolled_worker_and_its_coordinator_trust_each_other(tmp_path: Path) -> None:
    worker = enrolled(tmp_path, "client1", authority_in(tmp_path))
    server = handshake(coordinator_context(tmp_path), worker_context(worker))
    assert server.version() == "TLSv1.3"
    certificate = server.getpeercert(binary_form=True)
    assert certificate is not None
    assert (identity_of(certificate).name, identity_of(certificate).role) == ("client1", Role.WORKER)


def test_a_peer_without_a_certificate_gets_through_the_handshake_and_is_nobody(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    server = handshake(coordinator_context(tmp_path), enrolment_context(authority.certificate_der))
    assert server.getpeercert(binary_form=True) is None


def test_tls_1_2_is_refused(tmp_path: Path) -> None:
    worker = enrolled(tmp_path, "client1", authority_in(tmp_path))
    old = worker_context(worker)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol|version"):
        handshake(coordinator_context(tmp_path), old)


def test_a_coordinator_of_tls_1_2_is_refused_by_a_worker_with_what_to_do(tmp_path: Path) -> None:
    worker = enrolled(tmp_path, "client1", authority_in(tmp_path))
    old = coordinator_context(tmp_path)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(old, worker_context(worker))
    alert = ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version")
    alert.reason = "TLSV1_ALERT_PROTOCOL_VERSION"
    assert "no TLS 1.3 there" in str(explain_tls_failure(alert, host="h"))


def test_a_worker_of_another_authority_is_refused(tmp_path: Path) -> None:
    authority_in(tmp_path / "ours")
    stranger = enrolled(tmp_path / "theirs", "client1", authority_in(tmp_path / "theirs"))
    context = worker_context(stranger)
    context.load_verify_locations(tmp_path / "ours" / "authority" / "ca.pem")
    with pytest.raises(ssl.SSLError):
        handshake(coordinator_context(tmp_path / "ours"), context)


def test_a_coordinator_of_another_authority_is_refused_with_what_to_do(tmp_path: Path) -> None:
    authority_in(tmp_path / "ours")
    stranger = enrolled(tmp_path / "theirs", "client1", authority_in(tmp_path / "theirs"))
    with pytest.raises(ssl.SSLError) as caught:
        handshake(coordinator_context(tmp_path / "ours"), worker_context(stranger))
    line = str(explain_tls_failure(caught.value, host="h"))
    assert "another authority" in line
    assert "--token" in line


def test_an_expired_worker_is_refused(tmp_path: Path) -> None:
    long_ago = NOW - 800 * DAY
    authority = authority_in(tmp_path, now=long_ago)
    authority.ensure_coordinator([], now=NOW)
    worker = enrolled(tmp_path, "client1", authority, now=long_ago)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        handshake(coordinator_context(tmp_path), worker_context(worker))


def test_an_expired_coordinator_is_refused_with_what_to_do(tmp_path: Path) -> None:
    worker = enrolled(tmp_path, "client1", authority_in(tmp_path, now=NOW - 400 * DAY))
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(coordinator_context(tmp_path), worker_context(worker))
    assert "both clocks" in str(explain_tls_failure(caught.value, host="h"))


def test_a_worker_cannot_serve_as_the_coordinator(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    worker = enrolled(tmp_path, "client1", authority)
    fake = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    fake.load_cert_chain(worker.certificate_path, worker.key_path)
    client = worker_context(worker)
    client.check_hostname = False
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(fake, client)
    assert "another role" in str(explain_tls_failure(caught.value, host="h"))


def test_the_coordinator_cannot_pass_for_a_worker(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    client = enrolment_context(authority.certificate_der)
    client.load_cert_chain(tmp_path / "coordinator" / "cert.pem", tmp_path / "coordinator" / "key.pem")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate purpose"):
        handshake(coordinator_context(tmp_path), client)


def test_a_host_that_is_not_in_the_certificate_is_refused_with_what_to_do(tmp_path: Path) -> None:
    worker = enrolled(tmp_path, "client1", authority_in(tmp_path))
    with pytest.raises(ssl.SSLError) as caught:
        handshake(coordinator_context(tmp_path), worker_context(worker), hostname="hospital.example")
    assert "--public-host hospital.example" in str(explain_tls_failure(caught.value, host="hospital.example"))


def resumes(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    _, first = handshake_of_both(server, client)
    _, second = handshake_of_both(server, client, session=first.session)
    return bool(second.session_reused)


def test_no_session_is_ever_resumed(tmp_path: Path) -> None:
    worker = enrolled(tmp_path, "client1", authority_in(tmp_path))
    server = coordinator_context(tmp_path)
    assert not resumes(server, worker_context(worker))
    server.num_tickets = 2  # Python's default
    assert resumes(server, worker_context(worker)), "this test could not see a resumption"


def test_extensions_are_what_a_strict_verifier_wants(tmp_path: Path) -> None:
    authority = authority_in(tmp_path)
    worker = enrolled(tmp_path, "client1", authority)
    client = worker_context(worker)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = coordinator_context(tmp_path)
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    assert handshake(server, client).version() == "TLSv1.3"


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    worker = enrolled(tmp_path, "client1", authority_in(tmp_path))
    for path in (worker.key_path, tmp_path / "coordinator" / "key.pem"):
        path.chmod(0o604)
    with pytest.raises(CredentialError, match="chmod 600"):
        coordinator_context(tmp_path)
    with pytest.raises(CredentialError, match="chmod 600"):
        worker_context(worker)


@pytest.mark.parametrize("junk", [b"", b"no certificate"])
def test_a_token_without_an_authority_is_refused(junk: bytes) -> None:
    with pytest.raises(CredentialError, match="join token"):
        enrolment_context(junk)
