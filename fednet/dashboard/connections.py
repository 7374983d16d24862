"""Connections to the page: how many there may be, and for how long one may ask for nothing, or take nothing.

uvicorn's own limit sees requests, not who sends none; and where a process has no file descriptor left, asyncio logs a
traceback for every connection that waits. So what is one too many is closed before anything is done for it.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from fednet.transport.tcp import whose

MAX_CONNECTIONS = 256
MAX_PER_ADDRESS = 96  # a site behind one address: 64 pages that watch, and what they ask for


class LimitedListener(socket.socket):
    """A listening socket that keeps count of what it has accepted, TLS handshakes included."""

    def __init__(
        self, listening: socket.socket, *, most: int = MAX_CONNECTIONS, most_per_address: int = MAX_PER_ADDRESS
    ) -> None:
        """Take a socket over. Of the file descriptors at most half go to connections."""
        super().__init__(listening.family, listening.type, listening.proto, listening.detach())
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = most if allowed == resource.RLIM_INFINITY else min(most, allowed // 2)
        self._most_per_address = most_per_address
        self._accepted: list[tuple[socket.socket, str]] = []

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a connection and its address; raises `BlockingIOError` where none waits, or where it is refused."""
        connection, address = super().accept()
        came_from = whose(address[0])
        self._accepted = [each for each in self._accepted if each[0].fileno() >= 0]  # the others are closed
        by_address = Counter(each for _, each in self._accepted)
        if len(self._accepted) >= self._most or by_address[came_from] >= self._most_per_address:
            connection.close()
            raise BlockingIOError("too many connections")
        # Or each answer waits 40 ms for its head's ACK: asyncio sets it for sockets made with IPPROTO_TCP only
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted.append((connection, came_from))
        return connection, address


class Connection(H11Protocol):
    """One connection, which is cut off when its first request, or the peer's taking an answer, is overdue."""

    asked_within_s: ClassVar[float] = 10.0
    taken_within_s: ClassVar[float] = 60.0
    _ask: asyncio.TimerHandle | None = None
    _take: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP servers' are
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._ask = self.loop.call_later(self.asked_within_s, transport.abort)

    def handle_events(self) -> None:
        """Take what has come; bytes that are no whole request yet win no time."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            _cancel(self._ask)

    def on_response_complete(self) -> None:
        """Wait for the peer to take the rest of it and to ask for more: uvicorn would do so without end."""
        _cancel(self._ask)
        self._ask = self.loop.call_later(self.taken_within_s, self.transport.abort)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Wait for the peer to take what is written already: closing would wait without end."""
        super().pause_writing()
        self._take = self.loop.call_later(self.taken_within_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        _cancel(self._take)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        _cancel(self._ask)
        _cancel(self._take)
        super().connection_lost(exc)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
