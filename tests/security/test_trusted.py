import json
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fednet.config import WorkerName
from fednet.errors import BadInput, CredentialError, Refused
from fednet.security.authority import read_certificate
from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import Credentials, GivenFiles, request_for
from fednet.security.identity import PeerIdentity
from fednet.security.keys import new_key
from fednet.security.renewal import Renewer
from fednet.security.rotation import authorities_in, signing_authority
from fednet.security.tokens import TokenLedger
from fednet.security.trusted import known_authorities, objection, remove, trust, trusted_in
from tests.security.certs import NOW, SOON, authority_in, enrolled, handshake
from tests.security.site_authority import issue, make_authority, needs_openssl, openssl

pytestmark = needs_openssl
CLIENT1 = WorkerName("client1")


def centre(folder: Path, *sites: tuple[Path, str]) -> Path:
    """Make a coordinator's folder that trusts these authorities for these names, each."""
    authority_in(folder)
    for pem, name in sites:
        trust(folder, read_certificate(pem), [WorkerName(name)], now=SOON)
    return folder


def shown_at(folder: Path, files: GivenFiles) -> PeerIdentity:
    """Do the handshake of a worker with its own certificate, and return who the coordinator takes it for."""
    files.authority.write_bytes((folder / "authority" / "ca.pem").read_bytes())
    worker = Credentials(CLIENT1, files.key.parent, files)
    certificate = handshake(coordinator_context(folder), worker_context(worker)).getpeercert(binary_form=True)
    assert certificate is not None
    return known_authorities(folder).identity(certificate)


def test_a_worker_of_its_sites_own_authority_is_let_in_by_its_name(tmp_path: Path) -> None:
    mary = make_authority(tmp_path / "mary")
    folder = centre(tmp_path / "centre", (mary, "client1"))
    assert shown_at(folder, issue(mary.parent, "client1")).name == "client1"


def test_an_authority_that_is_not_recorded_is_refused_in_the_handshake(tmp_path: Path) -> None:
    mary, john = make_authority(tmp_path / "mary"), make_authority(tmp_path / "john")
    folder = centre(tmp_path / "centre", (mary, "client1"))
    with pytest.raises(ssl.SSLError):
        shown_at(folder, issue(john.parent, "client1"))


def test_a_sites_authority_speaks_for_no_other_name_and_no_other_role(tmp_path: Path) -> None:
    mary, john = make_authority(tmp_path / "mary"), make_authority(tmp_path / "john")
    folder = centre(tmp_path / "centre", (mary, "client1"), (john, "client2"))
    enrolled(folder, "client3", authority_in(folder))
    for name, role in (
        ("client2", "worker"),  # another site's
        ("client3", "worker"),  # one that the centre's own authority let in
        ("client1", "observer"),
        ("coordinator", "coordinator"),
    ):
        with pytest.raises(CredentialError, match="trusted for other names; expected worker client1"):
            shown_at(folder, issue(mary.parent, name, role=role))


def test_a_sites_authority_cannot_make_a_coordinator_that_workers_trust(tmp_path: Path) -> None:
    mary = make_authority(tmp_path / "mary")
    folder = centre(tmp_path / "centre", (mary, "client1"))
    worker = enrolled(folder, "client3", authority_in(folder))
    fake = issue(mary.parent, "coordinator", role="coordinator")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(fake.certificate, fake.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, worker_context(worker))


def test_what_is_signed_beneath_a_sites_authority_is_refused(tmp_path: Path) -> None:
    """Whoever the site's authority lets sign is not recorded here: the certificate must be by the authority itself."""
    mary = make_authority(tmp_path / "mary")
    folder = centre(tmp_path / "centre", (mary, "client1"))
    beneath = tmp_path / "mary" / "ward"
    beneath.mkdir(mode=0o700)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "ca.key"]
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    openssl(beneath, "req", *key, "-out", "ca.csr", "-subj", "/CN=Ward CA", *extensions)
    by = ["-CA", "../ca.pem", "-CAkey", "../ca.key", "-CAcreateserial", "-copy_extensions", "copy", "-days", "90"]
    openssl(beneath, "x509", "-req", "-in", "ca.csr", *by, "-out", "ca.pem")
    files = issue(beneath, "client1")
    files.certificate.write_bytes(files.certificate.read_bytes() + (beneath / "ca.pem").read_bytes())
    with pytest.raises(CredentialError, match="by none of the authorities that are trusted here themselves"):
        shown_at(folder, files)
    openssl(beneath, "verify", "-CAfile", "../ca.pem", "-untrusted", "ca.pem", "client1.pem")  # else it proves nothing


def test_an_issuing_authority_beneath_a_root_can_be_recorded_itself(tmp_path: Path) -> None:
    root = make_authority(tmp_path / "root")
    issuing = tmp_path / "root" / "issuing"
    issuing.mkdir(mode=0o700)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "ca.key"]
    extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    openssl(issuing, "req", *key, "-out", "ca.csr", "-subj", "/CN=Issuing CA", *extensions)
    by = ["-CA", "../ca.pem", "-CAkey", "../ca.key", "-CAcreateserial", "-copy_extensions", "copy", "-days", "90"]
    openssl(issuing, "x509", "-req", "-in", "ca.csr", *by, "-out", "ca.pem")
    folder = centre(tmp_path / "centre", (issuing / "ca.pem", "client1"))
    assert shown_at(folder, issue(issuing, "client1")).name == "client1"
    with pytest.raises(ssl.SSLError):  # its root is not trusted by that
        shown_at(folder, issue(root.parent, "client1"))


def test_name_constraints_are_checked(tmp_path: Path) -> None:
    limits = "nameConstraints=critical,permitted;dirName:mary"
    config = "[req]\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[mary]\nO=St Mary\n"
    config += "[v3]\nbasicConstraints=critical,CA:TRUE\n"
    (tmp_path / "mary").mkdir(mode=0o700)
    (tmp_path / "mary" / "limits.cnf").write_text(config)
    mary = make_authority(tmp_path / "mary", limits, config="limits.cnf")
    folder = centre(tmp_path / "centre", (mary, "client1"))
    assert shown_at(folder, issue(mary.parent, "client1", subject="/O=St Mary")).name == "client1"
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shown_at(folder, issue(mary.parent, "client1", subject="/O=St John"))


@pytest.mark.parametrize(
    ("extension", "complaint"),
    [
        ("nameConstraints=critical,permitted;URI:.mary.example", "of a kind that is not checked here"),
        ("nameConstraints=critical,excluded;otherName:1.2.3.4;UTF8:x", "of a kind that is not checked here"),
        ("policyConstraints=critical,requireExplicitPolicy:0", "a critical constraint that is not checked"),
        ("1.2.3.4=critical,ASN1:UTF8String:new rule", "a critical constraint that is not checked"),
    ],
)
def test_an_authority_whose_limits_cannot_be_checked_is_refused(tmp_path: Path, extension: str, complaint: str) -> None:
    folder = centre(tmp_path / "centre")
    certificate = read_certificate(make_authority(tmp_path / "mary", extension))
    with pytest.raises(BadInput, match=complaint):
        trust(folder, certificate, [CLIENT1], now=SOON)
    assert trusted_in(folder) == []


def test_what_is_no_authority_or_is_ours_is_refused(tmp_path: Path) -> None:
    folder, mary = centre(tmp_path / "centre"), make_authority(tmp_path / "mary")
    leaf = read_certificate(issue(mary.parent, "client1").certificate)
    with pytest.raises(BadInput, match="may not sign others"):
        trust(folder, leaf, [CLIENT1], now=SOON)
    with pytest.raises(BadInput, match="own authority"):
        trust(folder, authorities_in(folder).current, [CLIENT1], now=SOON)
    name = authorities_in(folder).current.subject.rfc4514_string()
    same = ["req", "-x509", "-key", "ca.key", "-out", "same.pem", "-addext", "keyUsage=keyCertSign", "-subj"]
    openssl(mary.parent, *same, f"/{name}")
    with pytest.raises(BadInput, match="the name of another authority"):  # it could keep our own workers out
        trust(folder, read_certificate(mary.parent / "same.pem"), [CLIENT1], now=SOON)
    later = NOW + timedelta(days=800)
    assert "not valid now" in (objection(read_certificate(mary), now=later) or "")
    weak = tmp_path / "weak"
    weak.mkdir()
    openssl(weak, "req", "-x509", "-newkey", "rsa:1024", "-noenc", "-keyout", "k", "-out", "c", "-subj", "/CN=weak")
    assert "weak" in (objection(read_certificate(weak / "c"), now=SOON) or "")


def test_a_name_belongs_to_one_authority_and_can_be_taken_away(tmp_path: Path) -> None:
    mary, john = make_authority(tmp_path / "mary"), make_authority(tmp_path / "john")
    folder = centre(tmp_path / "centre", (mary, "client1"), (mary, "client4"))
    assert [each.names for each in trusted_in(folder)] == [("client1", "client4")]
    with pytest.raises(BadInput, match=r"for which .* is trusted"):
        trust(folder, read_certificate(john), [CLIENT1], now=SOON)
    assert remove(folder, [CLIENT1]) == ["client1"]
    trust(folder, read_certificate(john), [CLIENT1], now=SOON)
    with pytest.raises(CredentialError, match="trusted for other names"):
        shown_at(folder, issue(mary.parent, "client1"))
    assert shown_at(folder, issue(john.parent, "client1")).name == "client1"
    fingerprint = next(each.fingerprint for each in trusted_in(folder) if each.names == ("client4",))
    assert remove(folder, [], fingerprint=fingerprint) == ["client4"]
    assert [each.names for each in trusted_in(folder)] == [("client1",)]
    for names, print_ in (([CLIENT1], fingerprint), ([WorkerName("nobody")], None), ([], None)):
        with pytest.raises(BadInput, match="certs trust --remove"):
            remove(folder, names, fingerprint=print_)


def test_a_certificate_of_a_sites_own_is_not_renewed_here(tmp_path: Path) -> None:
    mary = make_authority(tmp_path / "mary")
    folder = centre(tmp_path / "centre", (mary, "client1"))
    files = issue(mary.parent, "client1")
    renewer = Renewer(signing_authority(folder), authorities_in(folder), TokenLedger(folder))
    shown = read_certificate(files.certificate).public_bytes(Encoding.DER)
    with pytest.raises(Refused, match="of another authority"):
        renewer.renew(shown, request_for(new_key(), CLIENT1), now=SOON)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"names": ["a/b"], "certificate": "x"})])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    folder = centre(tmp_path / "centre")
    (folder / "trusted").mkdir()
    (folder / "trusted" / "x.json").write_text(content)
    with pytest.raises(CredentialError, match=r"x\.json; found a record that cannot be read"):
        coordinator_context(folder)
