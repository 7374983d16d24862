"""An authority, a coordinator and enrolled workers in a folder, for tests."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fednet.config import WorkerName
from fednet.security.authority import Authority, open_or_create_authority
from fednet.security.enrolment import Credentials, Enroller, credentials_in, make_request, store_certificate
from fednet.security.tokens import TokenLedger

NOW = datetime.now(UTC)
SOON = NOW + timedelta(hours=12)  # after the beginning of what openssl makes, also in a long run of tests
DAY = timedelta(days=1)


def authority_in(folder: Path, *, now: datetime = NOW) -> Authority:
    """Make an authority and a coordinator's certificate in `folder`."""
    authority = open_or_create_authority(folder, now=now)
    authority.ensure_coordinator([], now=now)
    return authority


def enrolled(folder: Path, name: str, authority: Authority, *, now: datetime = NOW) -> Credentials:
    """Enrol a worker by the front door: token, request, certificate."""
    credentials = credentials_in(folder, WorkerName(name))
    ledger = TokenLedger(folder)
    secret = ledger.issue(credentials.name, lifetime=DAY, now=now)
    enroller = Enroller(authority, ledger, [])
    certificate = enroller.enrol(name, secret, make_request(credentials), peer_address="192.0.2.1", now=now)
    store_certificate(credentials, certificate, authority.certificate_der)
    return credentials


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, hostname: str = "localhost") -> ssl.SSLObject:
    """Do a TLS handshake in memory, then move one byte; return the server's side. Raises `ssl.SSLError`."""
    return handshake_of_both(server, client, hostname)[0]


def handshake_of_both(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    hostname: str = "localhost",
    *,
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Do as `handshake`, where the client offers to resume `session`; return the server's side and the client's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_client = client.wrap_bio(to_client, to_server, server_side=False, server_hostname=hostname, session=session)
    at_server = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = {at_client, at_server}
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                pass
    at_client.write(b"x")
    at_server.read(1)
    at_server.write(b"y")
    at_client.read(1)  # TLS 1.3: a client learns only here that its certificate was refused
    return at_server, at_client
