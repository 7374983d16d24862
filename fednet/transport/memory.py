"""The in-memory twin of a TLS connection: two links joined without sockets, for tests and simulations."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from fednet.protocol.states import Role, State
from fednet.transport.link import Link

_HIGH_WATER_BYTES = 2**16


class MemoryTransport(asyncio.Transport):
    """One end of a pair; what is written reaches the other end's protocol in later turns of the event loop."""

    def __init__(self, protocol: asyncio.BufferedProtocol, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._arriving: deque[memoryview] = deque()
        self._arriving_bytes = 0
        self._scheduled = self._reading_paused = self._closing = self._lost = False
        self.other: MemoryTransport | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Copy `data` to the other end, as a network would."""
        if self.other is None or self._closing:
            return
        self.other._arrive(memoryview(bytes(data)))
        if self.other._arriving_bytes > _HIGH_WATER_BYTES:
            self._protocol.pause_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The twin has one fixed high-water mark."""

    def pause_reading(self) -> None:
        """Hold what arrives."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Deliver what was held."""
        self._reading_paused = False
        self._schedule()

    def is_closing(self) -> bool:
        """Whether this end was closed."""
        return self._closing

    def close(self) -> None:
        """Close both ends, once the other has read what was written."""
        self._closing = True
        if self.other is not None:
            self.other._schedule()
        self._loop.call_soon(self._lose)

    def abort(self) -> None:
        """Close both ends at once."""
        self.close()

    def _arrive(self, data: memoryview) -> None:
        self._arriving.append(data)
        self._arriving_bytes += len(data)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not self._lost:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._arriving and not self._reading_paused and not self._lost:
            data = self._arriving[0]
            target = memoryview(self._protocol.get_buffer(-1))
            count = min(len(target), len(data))
            target[:count] = data[:count]
            self._consume(count)
            self._protocol.buffer_updated(count)
        if self._arriving and not self._reading_paused:
            self._schedule()
        elif not self._arriving and self.other is not None and self.other._closing:
            self._lose()

    def _consume(self, count: int) -> None:
        self._arriving_bytes -= count
        rest = self._arriving[0][count:]
        if rest:
            self._arriving[0] = rest
        else:
            self._arriving.popleft()
        if self.other is not None and not self._arriving:
            self.other._protocol.resume_writing()

    def _lose(self) -> None:
        if not self._lost:
            self._closing = self._lost = True
            self._protocol.connection_lost(None)
            if self.other is not None and not self.other._arriving:
                self.other._schedule()


def memory_pair(*, certificate: bytes | None = b"certificate", begins: State = State.WAITING) -> tuple[Link, Link]:
    """Return the (coordinator's, worker's) link of a new connection; `certificate` is what the worker shows."""
    coordinator, worker = Link(Role.COORDINATOR), Link(Role.WORKER, begins=begins)
    at_coordinator = MemoryTransport(coordinator, {"peername": ("127.0.0.1", 1), "certificate": certificate})
    at_worker = MemoryTransport(worker, {"peername": ("127.0.0.1", 2), "certificate": b"coordinator"})
    at_coordinator.other, at_worker.other = at_worker, at_coordinator
    coordinator.connection_made(at_coordinator)
    worker.connection_made(at_worker)
    return coordinator, worker
