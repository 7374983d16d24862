"""TCP and TLS: a listener that counts and logs every failed handshake, and the worker's outgoing connection."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fednet.errors import BadInput, ConnectionLost, FednetError
from fednet.protocol import limits
from fednet.protocol.messages import Message
from fednet.protocol.states import Role, State
from fednet.transport.admission import Admission, Guest
from fednet.transport.complaints import Complaints
from fednet.transport.link import Link
from fednet.transport.proxy import Proxy, open_tunnel

log = logging.getLogger("fednet.transport")

SEND_BUFFER_BYTES = 2**20  # what the kernel may hold of ours, sent and not acknowledged
CONNECT_TIMEOUT_S = 15.0
UNSENT_BYTES = 2**19  # of it unsent, which a heartbeat waits behind; 128 KiB cost a tenth of the goodput on loopback
_BACKLOG = 256
_ACCEPT_AGAIN_S = 0.2

_TCP_NOTSENT_LOWAT = {"linux": 25, "darwin": 0x201}.get(sys.platform)  # the socket module names it from 3.12 on

OnPeer = Callable[[Link, Message], Awaitable[None]]
"""Serves one peer whose first message has come, until it is gone."""


@dataclass
class _Arrival:
    """One accepted connection; until asyncio has taken its socket over, this side must close it."""

    connection: socket.socket
    peer: str
    address: str
    is_taken_over: bool = False

    def new_link(self) -> Link:
        """Return the protocol that asyncio asks for when it takes the socket."""
        self.is_taken_over = True
        return Link(Role.COORDINATOR)

    def drop(self, _: asyncio.Task[None]) -> None:
        """Close the socket, if nobody else will."""
        if not self.is_taken_over:
            self.connection.close()


class Listener:
    """Accepts connections on one address until it is closed; each peer is served in its own task.

    In this order: `bind`, `serve_with`, `serve`. A port that is in use shows before a run has written anything.
    """

    def __init__(self, admission: Admission | None = None) -> None:
        self._context: ssl.SSLContext | None = None
        self._on_peer: OnPeer | None = None
        self._admission = admission or Admission()
        self._complaints = Complaints(log)
        self._socket: socket.socket | None = None

    def bind(self, host: str, port: int) -> tuple[str, int]:
        """Take the address and return it (with the real port where 0 was asked).

        Raises `BadInput` when the port is in use or the address is not this machine's.
        """
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._socket = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as exc:
            raise _cannot_listen(host, port, exc) from exc
        self._socket.setblocking(False)
        address = self._socket.getsockname()
        return str(address[0]), int(address[1])

    def serve_with(self, context: ssl.SSLContext, on_peer: OnPeer) -> None:
        """Say with which certificate peers are met, and who serves them."""
        self._context, self._on_peer = context, on_peer

    async def serve(self) -> None:
        """Accept until cancelled; then drop what is still being greeted."""
        assert self._socket is not None and self._on_peer is not None, "bind and serve_with come first"
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket, readable.set)
        try:
            async with asyncio.TaskGroup() as peers:
                while True:
                    await readable.wait()  # not sock_accept: cancelled at the wrong moment, that loses a connection
                    readable.clear()
                    try:
                        connection, address = self._socket.accept()
                    except (BlockingIOError, ConnectionError):
                        continue
                    except OSError as exc:  # no descriptor left, say: those who are here must not suffer for it
                        log.warning("cannot accept: %s", exc.strerror or exc)
                        loop.remove_reader(self._socket)
                        await asyncio.sleep(_ACCEPT_AGAIN_S)
                        loop.add_reader(self._socket, readable.set)
                        continue
                    arrival = _Arrival(connection, f"{address[0]}:{address[1]}", whose(address[0]))
                    peers.create_task(self._serve_peer(arrival)).add_done_callback(arrival.drop)
        finally:
            loop.remove_reader(self._socket)
            self._complaints.flush()
            self.close()

    def close(self) -> None:
        """Give the address back."""
        if self._socket is not None:
            self._socket.close()

    async def _serve_peer(self, arrival: _Arrival) -> None:
        now, peer, address = asyncio.get_running_loop().time, arrival.peer, arrival.address
        greeting = asyncio.ensure_future(self._greet(arrival))
        guest = Guest(address, now(), greeting.cancel)
        refusal = self._admission.enter(guest)
        if refusal is not None:
            greeting.cancel()
            self._complaints.say(address, f"{peer} dropped: {refusal}", now=now())
            return
        try:
            link, first = await greeting
        except (FednetError, OSError, TimeoutError) as exc:
            self._complaints.say(address, f"{peer} dropped: {_why_dropped(exc)}", now=now())
            return
        except asyncio.CancelledError:
            if not greeting.cancelled() or _is_cancelled():
                raise
            self._complaints.say(address, f"{peer} dropped: it was slow, and another needed its place", now=now())
            return
        finally:
            greeting.cancel()
            self._admission.leave(guest)
        assert self._on_peer is not None
        try:
            await self._on_peer(link, first)
        except Exception:  # one peer's trouble, even a bug of ours, must not end the others' task group
            log.exception("%s dropped: serving it failed", peer)
        finally:
            link.abort()

    async def _greet(self, arrival: _Arrival) -> tuple[Link, Message]:
        _, link = await asyncio.get_running_loop().connect_accepted_socket(
            arrival.new_link,
            _tuned(arrival.connection),
            ssl=self._context,
            ssl_handshake_timeout=limits.HANDSHAKE_TIMEOUT_S,
            ssl_shutdown_timeout=1.0,
        )
        try:
            async with asyncio.timeout(limits.HELLO_TIMEOUT_S):
                return link, await link.receive()
        except TimeoutError:
            await link.close("hello-timeout", _no_message_in_time())
            raise
        except BaseException:
            link.abort()
            raise


async def connect(
    host: str, port: int, context: ssl.SSLContext, *, begins: State = State.WAITING, proxy: Proxy | None = None
) -> Link:
    """Open the worker's one connection, TLS from the first byte; with a `proxy`, through its tunnel.

    Raises `ConnectionLost` when the coordinator cannot be reached, `ssl.SSLError` when it cannot be trusted, `BadInput`
    when the proxy refuses.
    """
    where = f"{host}:{port}" if proxy is None else f"{host}:{port} (through {proxy})"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            address = {"host": host, "port": port} if proxy is None else {"sock": await open_tunnel(proxy, host, port)}
            transport, link = await asyncio.get_running_loop().create_connection(
                lambda: Link(Role.WORKER, begins=begins),
                **address,
                ssl=context,
                server_hostname=host,
                ssl_handshake_timeout=limits.HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=1.0,
            )
    except ssl.SSLError:
        raise
    except TimeoutError as exc:
        raise ConnectionLost(f"{where} does not answer within {CONNECT_TIMEOUT_S:.0f} s") from exc
    except OSError as exc:
        raise ConnectionLost(f"{where} cannot be reached ({exc.strerror or exc})") from exc
    _tune(transport.get_extra_info("socket"))
    return link


def whose(address: str) -> str:
    """Return whose connections count together: an IPv4 address's, or those of a site's IPv6 network (RFC 6177)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def _tuned(connection: socket.socket) -> socket.socket:
    connection.setblocking(False)
    _tune(connection)
    return connection


def _tune(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if _TCP_NOTSENT_LOWAT is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def _why_dropped(exc: Exception) -> str:
    if isinstance(exc, FednetError):
        return str(exc)
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is refused ({exc.verify_message})"
    if isinstance(exc, ssl.SSLError):
        return f"TLS handshake failed ({exc.reason or exc})"
    if isinstance(exc, ConnectionAbortedError):  # asyncio's word for a handshake past its time
        return f"no TLS handshake within {limits.HANDSHAKE_TIMEOUT_S:.0f} s"
    if isinstance(exc, TimeoutError):
        return _no_message_in_time()
    return f"connection failed during the handshake ({exc})"


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _no_message_in_time() -> str:
    return f"no complete message within {limits.HELLO_TIMEOUT_S:.0f} s"


def _cannot_listen(host: str, port: int, exc: OSError) -> BadInput:
    if exc.errno == errno.EADDRINUSE:
        todo = "stop the other program (another coordinator?) or choose another --port"
        return BadInput(f"port {port} on {host}", found="in use", todo=todo)
    if exc.errno == errno.EACCES:
        return BadInput(f"port {port}", found="not allowed for this user", todo="choose a --port above 1023")
    return BadInput(f"--host {host}", found=exc.strerror or str(exc), expected="an address of this machine")
