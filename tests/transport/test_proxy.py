"""The way through an HTTP proxy, over real sockets on loopback."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fednet.commands.door import proxy_for
from fednet.errors import BadInput, ConnectionLost
from fednet.protocol import limits
from fednet.protocol.messages import Hello
from fednet.security.contexts import worker_context
from fednet.transport.proxy import Proxy, open_tunnel, proxy_from
from fednet.transport.tcp import connect
from tests.transport.test_tcp import WELCOME, listening


@contextlib.asynccontextmanager
async def proxying(answer: bytes | None = None, *, hangs_up: bool = True) -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """Run a proxy that gives this answer, or without one tunnels; yield it, and the requests it got."""
    requests: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is not None:
            writer.write(answer)
            if hangs_up:
                writer.close()
            return
        host, _, port = requests[-1].split(b" ")[1].decode().rpartition(":")
        up_reader, up_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        for part in (b"HTTP/1.1 200 Conn", b"ection established\r\nVia: a\r\n", b"\r\n"):
            writer.write(part)
            await asyncio.sleep(0)
        await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Proxy("127.0.0.1", server.sockets[0].getsockname()[1], "user:pa:ss"), requests


async def test_a_worker_reaches_its_coordinator_by_tls_inside_the_tunnel(tmp_path: Path) -> None:
    async with listening(tmp_path) as site, proxying() as (proxy, requests):
        link = await connect("127.0.0.1", site.port, worker_context(site.worker), proxy=proxy)
        link.send(Hello(software="test"))
        async with asyncio.timeout(5):
            assert await link.receive() == WELCOME
        link.abort()
    (request,) = requests
    assert request.startswith(f"CONNECT 127.0.0.1:{site.port} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n".encode())
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:pa:ss") + b"\r\n" in request


@pytest.mark.parametrize(
    ("answer", "error", "line"),
    [
        (b"HTTP/1.1 407 Authentication Required\r\n\r\n", BadInput, "asks for a password"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", BadInput, "allow CONNECT to centre.example:7733"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", ConnectionLost, "cannot reach centre.example:7733"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", BadInput, "does not speak HTTP"),
        (b"HTTP/1.1 2e2 OK\r\n\r\n", BadInput, "does not speak HTTP"),
        (b"HTTP/1.1 200", ConnectionLost, "hung up before it answered"),
        (b"", ConnectionLost, "hung up"),
        (b"x" * limits.MAX_PROXY_ANSWER_BYTES, BadInput, "an answer without end"),
    ],
)
async def test_what_a_proxy_may_answer_is_one_line(answer: bytes, error: type[Exception], line: str) -> None:
    async with proxying(answer) as (proxy, _):
        with pytest.raises(error, match=line) as caught:
            await open_tunnel(proxy, "centre.example", 7733)
    assert "pa:ss" not in str(caught.value)


async def test_a_proxy_that_is_not_there_is_worth_another_try() -> None:
    with pytest.raises(ConnectionLost, match="cannot be reached"):
        await open_tunnel(Proxy("127.0.0.1", 9), "centre.example", 7733)


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy.hospital:3128", Proxy("proxy.hospital", 3128)),
        ("proxy.hospital:3128", Proxy("proxy.hospital", 3128)),
        ("http://u%40h:p%3Aw@[::1]:3128/", Proxy("::1", 3128, "u@h:p:w")),
        ("http://proxy.hospital", Proxy("proxy.hospital", 80)),
    ],
)
def test_a_proxy_is_named_as_everywhere(text: str, proxy: Proxy) -> None:
    assert proxy_from(text) == proxy


@pytest.mark.parametrize("text", ["https://proxy", "socks5://u:secret@proxy:1080", "http://", "http://p:99999", "a/b"])
def test_what_names_no_http_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(BadInput, match="http://HOST:PORT") as caught:
        proxy_from(text)
    assert "secret" not in str(caught.value)


def test_the_environments_convention_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert proxy_for("centre.example", 7733, None) == Proxy("proxy", 3128)
    assert proxy_for("centre.example", 7733, "none") is None
    assert proxy_for("centre.example", 7733, "http://other:1") == Proxy("other", 1)
    assert proxy_for("127.0.0.1", 7733, None) is None
    for excepted in (".example", "centre.example:7733"):
        monkeypatch.setenv("NO_PROXY", excepted)
        assert proxy_for("centre.example", 7733, None) is None
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTPS_PROXY", "socks5h://u:secret@proxy:1080")
    with pytest.raises(BadInput, match=r"HTTPS_PROXY.*--proxy none") as caught:
        proxy_for("centre.example", 7733, None)
    assert "secret" not in str(caught.value)
