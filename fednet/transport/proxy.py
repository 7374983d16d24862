"""HTTP CONNECT, the one way out that many hospitals leave open (RFC 9110, 9.3.6); TLS runs inside the tunnel."""

from __future__ import annotations

import asyncio
import base64
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from fednet.errors import BadInput, ConnectionLost
from fednet.protocol.limits import MAX_PROXY_ANSWER_BYTES

DEFAULT_PROXY_PORT = 80  # that of http://, as other programs take it
_TRY_LATER = range(500, 600)  # the proxy's own trouble, or the coordinator is not up


@dataclass(frozen=True)
class Proxy:
    """Where the tunnel starts."""

    host: str
    port: int
    credentials: str | None = field(default=None, repr=False)  # user:password, never shown

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}"


def proxy_from(text: str) -> Proxy:
    """Return the proxy that `http://[USER:PASSWORD@]HOST[:PORT]` or HOST:PORT names; raises `BadInput`."""
    shown = text.rpartition("@")[2]  # without a password that may be in it
    wrong = BadInput(f"--proxy {shown}", expected="http://HOST:PORT, with USER:PASSWORD@ before HOST if it asks")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port or DEFAULT_PROXY_PORT
    except ValueError as exc:
        raise wrong from exc
    if parts.scheme != "http" or not host or parts.path not in ("", "/"):
        raise wrong
    credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    return Proxy(host, port, credentials)


async def open_tunnel(proxy: Proxy, host: str, port: int) -> socket.socket:
    """Return a connected socket whose bytes the proxy passes to host:port.

    Raises `ConnectionLost` where it is worth trying again, `BadInput` where the proxy will not do it.
    """
    connection = await _connected(proxy)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, _request(proxy, host, port))
        status, reason = _status(await _answer(connection, proxy), proxy)
        if not 200 <= status < 300:
            raise _refusal(proxy, f"{host}:{port}", status, reason)
    except OSError as exc:
        connection.close()
        raise ConnectionLost(f"proxy {proxy} hung up ({exc.strerror or exc})") from exc
    except BaseException:
        connection.close()
        raise
    return connection


async def _connected(proxy: Proxy) -> socket.socket:
    loop = asyncio.get_running_loop()
    trouble: OSError | None = None
    try:
        found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise ConnectionLost(f"proxy {proxy} cannot be found ({exc.strerror or exc})") from exc
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
        except OSError as exc:
            connection.close()
            trouble = exc
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise ConnectionLost(f"proxy {proxy} cannot be reached ({trouble})") from trouble


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(proxy.credentials.encode()).decode()}")
    return "\r\n".join([*lines, "", ""]).encode()


async def _answer(connection: socket.socket, proxy: Proxy) -> bytes:
    """Return the proxy's answer up to its empty line; the coordinator says nothing before our TLS does."""
    loop = asyncio.get_running_loop()
    found = b""
    while b"\r\n\r\n" not in found:
        more = await loop.sock_recv(connection, MAX_PROXY_ANSWER_BYTES - len(found))
        if not more:
            raise ConnectionLost(f"proxy {proxy} hung up before it answered")
        found += more
        if len(found) >= MAX_PROXY_ANSWER_BYTES:
            raise BadInput(f"proxy {proxy}", found="an answer without end", expected="an HTTP proxy there")
    return found


def _status(answer: bytes, proxy: Proxy) -> tuple[int, str]:
    version, _, rest = answer.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    status, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise BadInput(f"proxy {proxy}", found="something that does not speak HTTP", expected="an HTTP proxy there")
    return int(status), "".join(each for each in reason if each.isprintable())[:80]


def _refusal(proxy: Proxy, target: str, status: int, reason: str) -> ConnectionLost | BadInput:
    if status in _TRY_LATER:
        return ConnectionLost(f"proxy {proxy} cannot reach {target} ({status} {reason})")
    if status == 407:
        todo = "put USER:PASSWORD@ before its HOST; other schemes than Basic need a local proxy that speaks them"
        return BadInput(f"proxy {proxy}", found="it asks for a password (407)", todo=todo)
    return BadInput(
        f"proxy {proxy}",
        found=f"it does not let us through to {target} ({status} {reason})",
        todo=f"ask your network's administrator to allow CONNECT to {target}",
    )
