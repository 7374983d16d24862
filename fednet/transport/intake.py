"""Takes a transfer in: each chunk is stored and hashed in a thread, in order, while the next ones arrive."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import deque
from typing import Protocol

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.chunks import step_for
from fednet.transport.link import Link


class Store(Protocol):
    """Where the bytes of a transfer are kept."""

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        """Return writable memory for one chunk."""

    def keep(self, offset: int, data: memoryview) -> None:
        """Store a chunk and have its memory, which `buffer` gave, back. Runs in a thread; raises `StorageError`."""


class MemoryStore:
    """A transfer that lands in its final memory: a worker's own model buffer."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        """Return the chunk's own place."""
        return self._memory[offset : offset + nbytes]

    def keep(self, offset: int, data: memoryview) -> None:
        """The bytes are in place already."""


class Intake:
    """One transfer of known size and digest, which may arrive over several connections.

    `offset` is how much is stored and hashed: a new connection goes on from there.
    """

    def __init__(self, store: Store, *, nbytes: int, sha256: str) -> None:
        self._store = store
        self.nbytes = nbytes
        self.sha256 = sha256
        self.offset = 0
        self._hash = hashlib.sha256()
        self._chunks: deque[memoryview] = deque()
        self._arrived = asyncio.Event()

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        """Give the connection memory for the chunk at `offset`."""
        return self._store.buffer(offset, nbytes)

    def chunk_received(self, offset: int, data: memoryview) -> None:
        """Queue a chunk for the thread; the protocol's window bounds the queue."""
        self._chunks.append(data)
        self._arrived.set()

    async def run(self, link: Link, transfer: int, *, window: int = limits.WINDOW_BYTES) -> None:
        """Take the transfer from `offset` to its end and verify it, acknowledging as it is stored.

        `window` is the one that the sender was told.

        Raises `RemoteProtocolError` naming both digests when the bytes are not what was announced (the intake then
        starts over at 0), `StorageError` when they cannot be stored, `ConnectionLost` through the link's own reader.
        """
        self._chunks.clear()
        acknowledged = self.offset
        try:
            while self.offset < self.nbytes:
                await self._next_chunks()
                if self.offset - acknowledged >= step_for(window) or self.offset == self.nbytes:
                    acknowledged = self.offset
                    link.received(transfer, acknowledged)
        except asyncio.CancelledError:
            await self._finish(self._keep_chunks())  # what has arrived is not asked for again
            raise
        self._verify()

    async def _next_chunks(self) -> None:
        if not self._chunks:
            self._arrived.clear()
            await self._arrived.wait()
        job = self._keep_chunks()
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            await self._finish(job)  # `offset` and hash stay true: a thread cannot be cancelled half way
            raise

    def _keep_chunks(self) -> asyncio.Future[None]:
        chunks = list(self._chunks)
        self._chunks.clear()
        return asyncio.get_running_loop().run_in_executor(None, self._keep, chunks)

    async def _finish(self, job: asyncio.Future[None]) -> None:
        while not job.done():
            with contextlib.suppress(asyncio.CancelledError):  # being cancelled twice must not leave the thread alone
                await asyncio.wait({job})
        job.exception()  # a disk that fails now says so to the next connection too

    def _keep(self, chunks: list[memoryview]) -> None:
        for data in chunks:
            self._hash.update(data)
            self._store.keep(self.offset, data)
            self.offset += len(data)

    def _verify(self) -> None:
        found = self._hash.hexdigest()
        if found != self.sha256:
            self.offset, self._hash = 0, hashlib.sha256()
            raise RemoteProtocolError(f"transfer has SHA-256 {found}, announced was {self.sha256}")
