"""A TCP proxy that is as bad as a hospital's link: slow, late, breaking off, or silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

_PIECE = 16 * 1024
_LINGER_S = 0.02


@dataclass(frozen=True)
class Fate:
    """What becomes of one connection; bytes are counted towards the coordinator, TLS included."""

    breaks_after: int | None = None  # bytes; both ends then see it closed
    stalls_after: int | None = None  # bytes; neither end sees anything any more
    bytes_per_s: float | None = None
    delay_s: float = 0.0  # of every piece, each way


class RoughProxy:
    """Forwards to a port of this machine; `fate_of(number)` says what becomes of the n-th connection (from 0)."""

    def __init__(self, port: int, fate_of: Callable[[int], Fate]) -> None:
        self._target = port
        self._fate_of = fate_of
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0
        self.broken = self.stalled = 0
        self.passed: list[int] = []  # bytes towards the coordinator, of each connection

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[RoughProxy]:
        """Listen for as long as the block lasts."""
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)  # what waits here is in flight
        server = await asyncio.start_server(self._accept, sock=listening, limit=_PIECE)
        self.port = int(listening.getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for task in list(self._connections):
                task.cancel()
            if self._connections:
                await asyncio.wait(set(self._connections), timeout=5)
            for writer in self._writers:
                writer.transport.abort()  # a stalled one would wait for ever to send what it holds
            await asyncio.sleep(_LINGER_S)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._writers.append(writer)
        number = len(self.passed)
        self.passed.append(0)
        try:
            await self._forward(number, reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio's streams would report it as an error
        finally:
            self._connections.discard(task)
            writer.close()

    async def _forward(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=_PIECE)
        self._writers.append(to_writer)
        up = asyncio.create_task(self._pump(number, reader, to_writer, counted=True))
        down = asyncio.create_task(self._pump(number, to_reader, writer, counted=False))
        try:
            done, _ = await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if any(task.result() for task in done if not task.cancelled() and task.exception() is None):
                self.stalled += 1
                await asyncio.Event().wait()
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            to_writer.close()

    async def _pump(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool
    ) -> bool:
        """Forward until the end or the break; return whether the connection stalls from here on."""
        fate = self._fate_of(number)
        while data := await reader.read(_PIECE):
            if fate.delay_s:
                await asyncio.sleep(fate.delay_s)
            if counted and fate.bytes_per_s:
                await asyncio.sleep(len(data) / fate.bytes_per_s)
            writer.write(data)
            await writer.drain()
            if counted:
                self.passed[number] += len(data)
                if fate.stalls_after is not None and self.passed[number] >= fate.stalls_after:
                    return True
                if fate.breaks_after is not None and self.passed[number] >= fate.breaks_after:
                    self.broken += 1
                    writer.write_eof()  # closing at once could take back what is on its way
                    await asyncio.sleep(_LINGER_S)
                    return False
        return False
