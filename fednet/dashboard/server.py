"""Serves the page: where it listens, who is let in there, and until when."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from fednet.config import ALL_ADDRESSES, DASHBOARD_PORT
from fednet.dashboard.app import dashboard_app
from fednet.dashboard.connections import Connection, LimitedListener
from fednet.dashboard.feed import Feed
from fednet.dashboard.security import Access
from fednet.errors import BadInput, FednetError, StorageError

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_NICE = 5  # beside a coordinator the page waits for it
_FAREWELL_S = 1  # a page that is watched never ends by itself

EndsWith = Callable[[Callable[[], None]], None]
"""Calls what it is given, in any thread, once the page's process is to end: that of a run beside it has."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the page is, and who may look at it."""

    host: str
    port: int  # 0: any
    tls: ssl.SSLContext | None = None
    certified: Sequence[str] = ()  # hosts that its certificate is for
    token: str | None = field(default=None, repr=False)

    @property
    def access(self) -> Access:
        """Return who is let in."""
        if self.tls is None:
            return Access(hosts=[*_LOOPBACK_NAMES, in_url(self.host).lower()])
        own = [] if self.host in ALL_ADDRESSES else [self.host]
        return Access(hosts=[in_url(each).lower() for each in (*self.certified, *own)], token=self.token)

    def url(self, port: int, *, with_token: bool = True) -> str:
        """Return the address to open in a browser; `port` is what it listens on."""
        if self.tls is None:
            return f"http://{in_url(self.host)}:{port}/"
        known = sorted(self.certified, key=is_loopback) if self.host in ALL_ADDRESSES else []
        host = next(iter(known), self.host)
        return f"https://{in_url(host)}:{port}/" + (f"?token={self.token}" if with_token else "")


def in_url(host: str) -> str:
    """Return a host as URLs and Host headers have it: an IPv6 address in brackets and in its shortest form."""
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a page there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_in(text: str, *, option: str) -> tuple[str, int]:
    """Return (host, port) of HOST:PORT, HOST or :PORT; raises `BadInput`."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, str(DASHBOARD_PORT)
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise BadInput(f"{option} {text}", expected=f"HOST:PORT, such as 127.0.0.1:{DASHBOARD_PORT} or [::1]:0")
    return host.strip("[]") or "127.0.0.1", int(port)


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(32)


def bound(place: Place, *, option: str) -> LimitedListener:
    """Return a socket that listens there; raises `BadInput` where it cannot."""
    try:
        family = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)[0][0]
        return LimitedListener(socket.create_server((place.host, place.port), family=family))
    except OSError as exc:
        raise BadInput(
            f"{option} {in_url(place.host)}:{place.port}",
            found=exc.strerror or str(exc),
            todo="choose another port (0: any that is free), or an address of this machine",
        ) from exc


def serve(folder: Path, place: Place, listening: LimitedListener, *, ends_with: EndsWith | None) -> None:
    """Show the run in `folder` until interrupted, or until whatever it `ends_with` does."""
    _require_page()
    feed = Feed(folder)
    config = uvicorn.Config(
        dashboard_app(feed, place.access),
        http="h11",
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_FAREWELL_S,
    )
    asyncio.run(_serve(uvicorn.Server(config), feed, listening, tls=place.tls, ends_with=ends_with))


async def _serve(
    server: uvicorn.Server,
    feed: Feed,
    listening: LimitedListener,
    *,
    tls: ssl.SSLContext | None,
    ends_with: EndsWith | None,
) -> None:
    def leave() -> None:
        server.should_exit = True

    if ends_with is not None:
        os.nice(_NICE)
        ends_with(leave)
    else:  # a long run takes a second or two to add up: somebody is about to look
        threading.Thread(target=_read_ahead, args=(feed,), daemon=True).start()
    accepting = await asyncio.get_running_loop().create_server(  # uvicorn's own would wait a minute for a handshake
        lambda: Connection(server.config, server.server_state, {}),
        sock=listening,
        ssl=tls,
        ssl_handshake_timeout=None if tls is None else Connection.asked_within_s,
    )
    try:
        await server.serve(sockets=[])
    finally:
        accepting.close()


def _read_ahead(feed: Feed) -> None:
    with contextlib.suppress(FednetError):  # whoever looks is told
        feed.look()


def _require_page() -> None:
    if not (Path(__file__).parent / "static" / "index.html").is_file():
        raise StorageError("fednet/dashboard/static/index.html is not there: the checkout is not whole")
