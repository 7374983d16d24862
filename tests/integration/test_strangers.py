"""Who gets in at a running coordinator, asked by other people's code: OpenSSL's program and Python's `ssl`."""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from fednet.commands.door import Door
from fednet.config import WorkerName
from fednet.errors import CredentialError
from fednet.protocol.messages import Hello, Message, Probe, Probed, RenewalRequested, UpdateOffered, Welcome
from fednet.security.authority import Authority
from fednet.security.enrolment import Credentials, credentials_in, make_request, store_certificate
from fednet.security.identity import Role, identity_uri
from fednet.security.keys import new_key, save_key
from tests.integration.site import cli
from tests.integration.strangers import (
    Centre,
    centre,
    code_of,
    decoded,
    fresh_address,
    hello_and_goodbye,
    needs_openssl,
    openssl,
    say,
)
from tests.security.certs import authority_in, enrolled

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="strangers need addresses of their own: 127.0.0.2 and so on"),
]

NOW = datetime.now(UTC)
NAME = WorkerName("stranger")
HELLO = Hello(software="stranger")
NO_TLS_1_3 = "TLS handshake failed (UNSUPPORTED_PROTOCOL)"
OFFER = UpdateOffered(round=1, transfer=1, nbytes=4, sha256="ab" * 32, samples=1, train_s=0.0, loss=0.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    with centre(tmp_path_factory.mktemp("strangers")) as found:
        yield found


def signed(authority: Authority, folder: Path, *, now: datetime = NOW, role: Role = Role.WORKER) -> Credentials:
    """Return credentials whose certificate an authority has signed at that time."""
    credentials = credentials_in(folder, NAME)
    certificate = authority.sign_worker(make_request(credentials), NAME, now=now, days=30, role=role)
    store_certificate(credentials, certificate, authority.certificate_der)
    return credentials


def self_signed(site: Centre, folder: Path) -> Credentials:
    credentials, key = credentials_in(folder, NAME), new_key()
    save_key(credentials.key_path, key)
    uri = x509.UniformResourceIdentifier(identity_uri(Role.WORKER, NAME))
    certificate = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .sign(key, hashes.SHA256())
    )
    credentials.certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return credentials


def coordinators(site: Centre, folder: Path) -> Credentials:
    return Credentials(WorkerName("coordinator"), site.certs / "coordinator")


REFUSED_BY_TLS: list[tuple[Callable[[Centre, Path], Credentials], str]] = [
    (
        lambda site, folder: signed(site.authority, folder, now=NOW - timedelta(days=60)),
        "its certificate is refused (certificate has expired)",
    ),
    (self_signed, "its certificate is refused (self-signed certificate)"),
    (
        lambda site, folder: signed(authority_in(folder / "other"), folder),
        "its certificate is refused (unable to get local issuer certificate)",
    ),
    (coordinators, "its certificate is refused (unsuitable certificate purpose)"),
]
KINDS = ["expired", "self-signed", "another authority's", "the coordinator's"]


@pytest.mark.parametrize(("made", "complaint"), REFUSED_BY_TLS, ids=KINDS)
async def test_a_certificate_that_is_not_good_here_is_refused_in_the_handshake_with_a_line_of_its_own(
    site: Centre, tmp_path: Path, made: Callable[[Centre, Path], Credentials], complaint: str
) -> None:
    said, peer = await say(site, site.context(made(site, tmp_path)), HELLO)
    assert said == []
    await asyncio.to_thread(site.wait_for, f"{peer} dropped")
    (line,) = site.lines_about(peer)
    assert complaint in line


@needs_openssl
@pytest.mark.parametrize(("made", "complaint"), REFUSED_BY_TLS, ids=KINDS)
def test_openssl_does_not_get_in_with_such_a_certificate(
    site: Centre, tmp_path: Path, made: Callable[[Centre, Path], Credentials], complaint: str
) -> None:
    credentials, address = made(site, tmp_path), fresh_address()
    done = connect(site, address, "-cert", credentials.certificate_path, "-key", credentials.key_path)
    assert done.returncode != 0
    assert decoded_welcome(done.stdout) is None
    site.wait_for_line(address, complaint)


async def test_a_revoked_certificate_is_refused_with_the_reason_and_a_line_of_its_own(
    site: Centre, tmp_path: Path
) -> None:
    credentials = enrolled(site.certs, "gone", site.authority)
    context = site.context(credentials)
    said, _ = await say(site, context, HELLO)
    assert isinstance(said[0], Welcome)
    await asyncio.to_thread(site.revoke, "gone", "left the study")
    for first in (HELLO, Probe(filling=b"")):
        said, peer = await until_refused(site, context, first)
        assert code_of(said) == "revoked"
        assert "left the study" in said[0].reason  # type: ignore[attr-defined]
        (line,) = site.lines_about(peer)
        assert "refused: its certificate is revoked: left the study" in line


@needs_openssl
def test_openssl_is_told_the_reason_with_a_revoked_certificate(site: Centre) -> None:
    credentials, address = enrolled(site.certs, "gone-too", site.authority), fresh_address()
    pair = ["-cert", credentials.certificate_path, "-key", credentials.key_path]
    assert decoded_welcome(connect(site, fresh_address(), *pair).stdout) == "gone-too"
    site.revoke("gone-too", "left the study")
    done = connect(site, address, *pair)
    while decoded_welcome(done.stdout) is not None:  # a coordinator needs a moment to hear of it
        done = connect(site, address, *pair)
    assert code_of(decoded(done.stdout)) == "revoked"
    site.wait_for_line(address, "refused: its certificate is revoked: left the study")


@needs_openssl
def test_openssl_without_a_certificate_can_do_nothing(site: Centre) -> None:
    address = fresh_address()
    done = connect(site, address)
    assert code_of(decoded(done.stdout)) == "protocol"
    site.wait_for_line(address, "HELLO is not allowed while anonymous")


@needs_openssl
def test_openssl_does_not_take_part_as_an_observer(site: Centre, tmp_path: Path) -> None:
    lab, address = signed(site.authority, tmp_path, role=Role.OBSERVER), fresh_address()
    done = connect(site, address, "-cert", lab.certificate_path, "-key", lab.key_path)
    assert code_of(decoded(done.stdout)) == "role"
    site.wait_for_line(address, "refused: the certificate is of the role observer, not worker")


async def until_refused(site: Centre, context: ssl.SSLContext, first: Message) -> tuple[list[Message], str]:
    """A coordinator needs a moment to hear of a revocation."""
    async with asyncio.timeout(20):
        while True:
            said, peer = await say(site, context, first)
            if not isinstance(said[0], Welcome | Probed):
                return said, peer


async def test_an_observer_measures_and_takes_part_in_nothing(site: Centre, tmp_path: Path) -> None:
    context = site.context(signed(site.authority, tmp_path, role=Role.OBSERVER))
    said, _ = await say(site, context, Probe(filling=b"abc"))
    assert isinstance(said[0], Probed)
    assert said[0].filling == b"abc"
    said, peer = await say(site, context, HELLO)
    assert code_of(said) == "role"
    (line,) = site.lines_about(peer)
    assert "refused: the certificate is of the role observer, not worker" in line


async def test_a_coordinators_name_in_a_clients_certificate_opens_nothing(site: Centre, tmp_path: Path) -> None:
    context = site.context(signed(site.authority, tmp_path, role=Role.COORDINATOR))
    for first in (HELLO, Probe(filling=b"")):
        said, peer = await say(site, context, first)
        assert code_of(said) == "role"
        assert "of the role coordinator" in "".join(site.lines_about(peer))


@pytest.mark.parametrize(
    "first",
    [HELLO, Probe(filling=b""), OFFER, RenewalRequested(request=b"r")],
    ids=["HELLO", "PROBE", "UPDATE_OFFERED", "RENEWAL_REQUESTED"],
)
async def test_without_a_certificate_a_peer_can_do_nothing_but_enrol(site: Centre, first: Message) -> None:
    said, peer = await say(site, site.context(), first)
    assert code_of(said) == "protocol"
    await asyncio.to_thread(site.wait_for, f"{peer} dropped")
    (line,) = site.lines_about(peer)
    assert f"{first.kind.name} is not allowed while anonymous" in line


async def test_tls_1_2_is_refused(site: Centre, tmp_path: Path) -> None:
    context = site.context(signed(site.authority, tmp_path))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    address = fresh_address()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await say(site, context, HELLO, address=address)
    await asyncio.to_thread(site.wait_for_line, address, NO_TLS_1_3)


@needs_openssl
def test_openssl_does_not_get_in_by_tls_1_2(site: Centre, tmp_path: Path) -> None:
    good, address = signed(site.authority, tmp_path), fresh_address()
    done = connect(site, address, "-tls1_2", "-cert", good.certificate_path, "-key", good.key_path)
    assert done.returncode != 0
    assert decoded_welcome(done.stdout) is None
    site.wait_for_line(address, NO_TLS_1_3)


async def test_a_good_certificate_is_welcome(site: Centre, tmp_path: Path) -> None:
    said, peer = await say(site, site.context(signed(site.authority, tmp_path)), HELLO)
    assert isinstance(said[0], Welcome)
    assert said[0].worker == NAME
    await asyncio.to_thread(site.wait_for, f"{NAME} ({peer}) connected")


@needs_openssl
def test_openssl_with_a_good_certificate_is_welcome_and_finds_the_coordinators_good(
    site: Centre, tmp_path: Path
) -> None:
    good = signed(site.authority, tmp_path)
    strict = ["-verify_return_error", "-verify_ip", "127.0.0.1", "-x509_strict"]
    done = connect(site, fresh_address(), *strict, "-cert", good.certificate_path, "-key", good.key_path)
    assert decoded_welcome(done.stdout) == NAME, done.stderr


@needs_openssl
@pytest.mark.parametrize(
    ("whose", "purpose", "is_good"),
    [
        ("workers/stranger", "sslclient", True),
        ("workers/stranger", "sslserver", False),
        ("coordinator", "sslserver", True),
        ("coordinator", "sslclient", False),
    ],
)
def test_openssl_verifies_what_each_certificate_is_for(
    site: Centre, tmp_path: Path, whose: str, purpose: str, is_good: bool
) -> None:
    signed(site.authority, tmp_path)
    certificate = (tmp_path if whose.startswith("workers") else site.certs) / whose / "cert.pem"
    done = openssl("verify", "-x509_strict", "-CAfile", site.ca, "-purpose", purpose, certificate)
    assert (done.returncode == 0) is is_good, done
    if not is_good:
        assert b"unsuitable certificate purpose" in done.stderr


@needs_openssl
@pytest.mark.parametrize(
    ("made", "complaint"),
    [(made, complaint.split("(")[1].rstrip(")")) for made, complaint in REFUSED_BY_TLS[:3]],
    ids=KINDS[:3],
)
def test_openssl_verifies_none_of_the_certificates_that_are_refused(
    site: Centre, tmp_path: Path, made: Callable[[Centre, Path], Credentials], complaint: str
) -> None:
    done = openssl("verify", "-CAfile", site.ca, made(site, tmp_path).certificate_path)
    assert done.returncode != 0
    assert complaint in done.stderr.decode()


@needs_openssl
def test_openssl_verifies_the_coordinators_host_names_and_addresses_alone(site: Centre) -> None:
    certificate = site.certs / "coordinator" / "cert.pem"
    for option, value, is_good in (
        ("-verify_hostname", "localhost", True),
        ("-verify_ip", "127.0.0.1", True),
        ("-verify_hostname", "centre.example", False),
        ("-verify_ip", "192.0.2.1", False),
    ):
        done = openssl("verify", "-CAfile", site.ca, option, value, certificate)
        assert (done.returncode == 0) is is_good, (value, done)


def connect(site: Centre, address: str, *options: object) -> subprocess.CompletedProcess[bytes]:
    """Let `openssl s_client`, from this address, say HELLO to the coordinator, until that hangs up."""
    where = ["-connect", f"127.0.0.1:{site.port}", "-bind", f"{address}:0", "-CAfile", site.ca]
    return openssl("s_client", "-quiet", *where, *options, stdin=hello_and_goodbye())


def decoded_welcome(heard: bytes) -> str | None:
    """Return the name that a coordinator has welcomed, if it has."""
    return next((each.worker for each in decoded(heard) if isinstance(each, Welcome)), None)


def test_an_observer_looks_at_the_way_by_its_token_until_it_is_revoked(site: Centre, tmp_path: Path) -> None:
    made = cli(site.folder, "certs", "token", "auditor", "--role", "observer", "--port", site.port)
    where = ["--coordinator", f"127.0.0.1:{site.port}", "--certs", tmp_path]
    looked = cli(site.folder, "doctor", *where, "--token", made.stdout.strip())
    for line in ("ok    enrolment    as auditor", "ok    clock", "ok    rate"):
        assert line in looked.stdout
    site.revoke("auditor", "the audit is over")
    again = cli(site.folder, "doctor", *where)
    assert again.returncode == 1
    said = [line for line in again.stdout.splitlines() if line.startswith("FAIL")]
    assert said[-1].startswith("FAIL  admission    the certificate of auditor is revoked: the audit is over"), said


# The other way round: what a worker makes of whoever answers at the coordinator's address


def impostor(authority: Authority, folder: Path, *, usage: x509.ObjectIdentifier) -> ssl.SSLContext:
    """Return a server's context whose certificate names a worker, for this host, and for this usage."""
    key = new_key()
    certificate = authority._sign(
        key.public_key(),
        common_name="client1",
        alternative_names=[
            x509.UniformResourceIdentifier(identity_uri(Role.WORKER, WorkerName("client1"))),
            x509.DNSName("localhost"),
        ],
        usage=usage,
        now=NOW,
        days=1,
    )
    save_key(folder / "key.pem", key)
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize(
    ("usage", "complaint"),
    [
        (ExtendedKeyUsageOID.CLIENT_AUTH, "a certificate of another role there"),
        (ExtendedKeyUsageOID.SERVER_AUTH, r"found the certificate of a worker there; expected a coordinator's"),
    ],
    ids=["as issued", "with a server's key usage"],
)
async def test_a_workers_certificate_does_not_serve_as_a_coordinators(
    tmp_path: Path, usage: x509.ObjectIdentifier, complaint: str
) -> None:
    authority = authority_in(tmp_path)
    enrolled(tmp_path, "client2", authority)
    heard = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            heard.set()
        writer.transport.abort()

    context = impostor(authority, tmp_path / "impostor", usage=usage)
    server = await asyncio.start_server(listen, "localhost", 0, ssl=context, family=socket.AF_INET)
    door = Door(tmp_path, WorkerName("client2"), "localhost", server.sockets[0].getsockname()[1], None)
    async with server:
        with pytest.raises(CredentialError, match=complaint):
            await reached(door)
    assert not heard.is_set(), "nothing is said to an impostor"


async def reached(door: Door) -> None:
    try:
        await door.reach()
    except ssl.SSLError as exc:
        raise door.explain(exc) from exc
