"""The listener against hostile and clumsy peers, over real sockets on loopback."""

import asyncio
import contextlib
import gc
import logging
import socket
import struct
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fednet.errors import BadInput, ConnectionLost, FednetError, RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.frames import VERSION
from fednet.protocol.messages import Hello, Message, Welcome
from fednet.security.authority import Authority
from fednet.security.contexts import coordinator_context, enrolment_context, worker_context
from fednet.security.enrolment import Credentials
from fednet.transport.link import Link
from fednet.transport.tcp import Listener, connect, whose
from tests.security.certs import authority_in, enrolled
from tests.transport.hostile import send_over_tls

WELCOME = Welcome(run="r", worker="w", settings={}, manifest="ab" * 32, heartbeat_s=10.0)


class Site:
    """A listening coordinator that greets, and what one needs to reach it."""

    def __init__(self, folder: Path) -> None:
        self.authority: Authority = authority_in(folder)
        self.worker: Credentials = enrolled(folder, "client1", self.authority)
        self.listener = Listener()
        self.port = self.listener.bind("127.0.0.1", 0)[1]
        self.listener.serve_with(coordinator_context(folder), self.greet)

    async def greet(self, link: Link, first: Message) -> None:
        link.send(WELCOME)
        with contextlib.suppress(FednetError):
            await link.receive()

    async def greeting(self) -> Message:
        link = await connect("127.0.0.1", self.port, worker_context(self.worker))
        link.send(Hello(software="test"))
        async with asyncio.timeout(5):
            answer = await link.receive()
        link.abort()
        return answer


@contextlib.asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[Site]:
    site = Site(folder)
    serving = asyncio.create_task(site.listener.serve())
    try:
        yield site
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def raw(site: Site, data: bytes) -> bytes:
    """Send bytes without TLS and return what comes back until the listener hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(data)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def over_tls(site: Site, data: bytes) -> None:
    """Send bytes over TLS, with a good certificate, until the listener hangs up."""
    await send_over_tls(site.port, worker_context(site.worker), data)


async def test_a_worker_is_greeted(tmp_path: Path) -> None:
    async with listening(tmp_path) as site:
        assert await site.greeting() == WELCOME


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"FN\x02\x01" + bytes(100), b"\x16\x03\x01\xff\xff" + bytes(64)]
)
async def test_a_peer_that_speaks_no_tls_is_dropped_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", 0.5)
    async with listening(tmp_path) as site:
        with caplog.at_level(logging.WARNING, "fednet.transport"):
            await raw(site, data)
            assert await site.greeting() == WELCOME
    assert "127.0.0.1:" in caplog.text
    assert "dropped: " in caplog.text


async def test_a_peer_that_says_nothing_is_dropped_within_the_handshake_timeout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT_S", 0.2)
    async with listening(tmp_path) as site:
        assert await raw(site, b"") == b""
        assert await site.greeting() == WELCOME
    assert "no TLS handshake within" in caplog.text


async def test_a_peer_that_says_nothing_after_tls_is_dropped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HELLO_TIMEOUT_S", 0.2)
    async with listening(tmp_path) as site:
        await over_tls(site, b"FN")
        assert await site.greeting() == WELCOME
    assert "no complete message within" in caplog.text


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"garbage, but over TLS", "does not speak FedNet"),
        (struct.pack("!2sBBII", b"FN", 9, 1, 10, 0), "version 9"),
        (struct.pack("!2sBBII", b"FN", VERSION, 1, 2**32 - 1, 0), "limit is 1 to 65536"),
        (struct.pack("!2sBBII", b"FN", VERSION, 15, 20, 2**32 - 1), "limit is 1 to"),
        (struct.pack("!2sBBII", b"FN", VERSION, 3, 1, 0) + b"\x80", "READY is not allowed"),
    ],
)
async def test_garbage_over_tls_is_dropped_and_logged_with_its_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, data: bytes, complaint: str
) -> None:
    async with listening(tmp_path) as site:
        await over_tls(site, data)
        assert await site.greeting() == WELCOME
    assert complaint in caplog.text
    assert "127.0.0.1:" in caplog.text


async def test_a_flood_from_one_address_leaves_the_identified_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(tmp_path) as site:
        worker = await connect("127.0.0.1", site.port, worker_context(site.worker))
        worker.send(Hello(software="test"))
        assert await worker.receive() == WELCOME
        flood = [
            await asyncio.open_connection("127.0.0.1", site.port)
            for _ in range(limits.MAX_UNAUTHENTICATED_PER_ADDRESS + 5)
        ]
        assert await flood[-1][0].read() == b""
        for _, writer in flood:
            writer.close()
        assert await worker.is_alive()
        worker.abort()
    assert "unidentified connections from this address already" in caplog.text


async def test_without_a_certificate_hello_is_refused(tmp_path: Path) -> None:
    async with listening(tmp_path) as site:
        context = enrolment_context(site.authority.certificate_der)
        link = await connect("127.0.0.1", site.port, context)
        link.send(Hello(software="test"))
        with pytest.raises((ConnectionLost, RemoteProtocolError)):
            while True:
                await link.receive()


async def test_a_certificate_of_another_authority_is_refused_after_the_clients_own_handshake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = enrolled(tmp_path / "other", "client1", authority_in(tmp_path / "other"))
    async with listening(tmp_path / "ours") as site:
        context = worker_context(stranger)
        context.load_verify_locations(cadata=site.authority.certificate_der)
        link = await connect("127.0.0.1", site.port, context)
        link.send(Hello(software="test"))
        with pytest.raises(ConnectionLost):
            await link.receive()
    assert "its certificate is refused (self-signed certificate in certificate chain)" in caplog.text


async def test_a_port_in_use_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with pytest.raises(BadInput, match="in use"):
        Listener().bind("127.0.0.1", site.port)
    site.listener.close()


@pytest.mark.parametrize("last", [b"", b"garbage"])
async def test_a_connection_that_is_gone_takes_its_memory_with_it(tmp_path: Path, last: bytes) -> None:
    """Found by fuzzing: a cycle kept 100 KiB of TLS for each, until a collection that hardly ever came."""
    async with listening(tmp_path) as site:
        gc.collect()
        gc.disable()
        try:
            link = await connect("127.0.0.1", site.port, worker_context(site.worker))
            link.send(Hello(software="test"))
            assert await link.receive() == WELCOME
            assert link._transport is not None
            link._transport.write(last)
            gone = weakref.ref(link)
            link.abort()
            del link
            for _ in range(50):
                await asyncio.sleep(0.01)
            assert gone() is None
            links = [each for each in gc.get_objects() if type(each) is Link]
            assert links == [], "the coordinator's end"
        finally:
            gc.enable()


async def test_a_connection_that_came_as_the_listener_ended_is_closed(tmp_path: Path) -> None:
    site = Site(tmp_path)
    serving = asyncio.create_task(site.listener.serve())
    await asyncio.sleep(0)
    with socket.create_connection(("127.0.0.1", site.port)) as peer:
        peer.setblocking(False)
        await asyncio.sleep(0)  # the listener has been told of it, no more
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.get_running_loop().sock_recv(peer, 1) == b""
    gc.collect()  # what was left open would warn here


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python knows no IPv6")
async def test_ipv6_works_as_ipv4_does(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.listener.close()
    try:
        port = site.listener.bind("::1", 0)[1]
    except BadInput:
        pytest.skip("this machine has no IPv6 loopback")
    serving = asyncio.create_task(site.listener.serve())
    link = await connect("::1", port, worker_context(site.worker))
    link.send(Hello(software="test"))
    assert await link.receive() == WELCOME
    link.abort()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_whole_ipv6_network_counts_as_one_address(address: str, counted: str) -> None:
    assert whose(address) == counted


def test_an_address_of_another_machine_says_so() -> None:
    with pytest.raises(BadInput, match="an address of this machine"):
        Listener().bind("192.0.2.1", 0)


async def test_nobody_listening_is_a_lost_connection(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.listener.close()
    with pytest.raises(ConnectionLost, match="cannot be reached"):
        await connect("127.0.0.1", site.port, worker_context(site.worker))


async def test_a_bug_in_serving_one_peer_does_not_end_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(tmp_path) as site:
        greet = site.greet

        async def fail_once(link: Link, first: Message) -> None:
            site.listener._on_peer = greet
            raise ZeroDivisionError("a bug")

        site.listener._on_peer = fail_once
        with pytest.raises(ConnectionLost):
            await site.greeting()
        assert await site.greeting() == WELCOME
    assert "a bug" in caplog.text
