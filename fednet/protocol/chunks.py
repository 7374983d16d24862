"""Transfers cut into chunks: what to send next within the window, and where a received chunk lands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.frames import ChunkHead


def window_for(links: int) -> int:
    """Return the window (bytes) that a side with so many links asks for: all together hold a bounded amount."""
    return max(limits.MIN_WINDOW_BYTES, min(limits.WINDOW_BYTES, limits.ALL_WINDOWS_BYTES // links))


def step_for(window: int) -> int:
    """Return how many bytes a receiver takes between two acknowledgements: the sender then never waits for one."""
    return window // 4


def chunk_for(window: int) -> int:
    """Return how many bytes to send at a time."""
    return min(limits.CHUNK_BYTES, step_for(window))


class Destination(Protocol):
    """Where the bytes of an incoming transfer go."""

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        """Return writable memory of exactly `nbytes` bytes for the chunk at `offset`."""

    def chunk_received(self, offset: int, data: memoryview) -> None:
        """Take the chunk, which `data` (as returned by `buffer`) now holds; must not block."""


@dataclass
class Outgoing:
    """One transfer that this side sends: `data` as it lies in memory, from `sent` on."""

    transfer: int
    data: memoryview  # bytes, the whole transfer
    sent: int
    acknowledged: int
    window: int = limits.WINDOW_BYTES  # most bytes sent and not acknowledged
    chunk: int = limits.CHUNK_BYTES  # bytes sent at a time

    @property
    def is_complete(self) -> bool:
        """Whether the receiver has taken everything."""
        return self.acknowledged == len(self.data)

    def next_chunk(self) -> tuple[ChunkHead, memoryview] | None:
        """Return the next chunk, or None while all is sent or the window is full."""
        nbytes = min(self.chunk, len(self.data) - self.sent)
        if nbytes == 0 or self.sent + nbytes - self.acknowledged > self.window:
            return None
        head = ChunkHead(self.transfer, self.sent)
        self.sent += nbytes
        return head, self.data[head.offset : self.sent]

    def acknowledge(self, offset: int) -> None:
        """Move the window; raises `RemoteProtocolError` for an offset that was not sent, or that goes back."""
        if not self.acknowledged <= offset <= self.sent:
            raise RemoteProtocolError(
                f"transfer {self.transfer}: {offset} bytes acknowledged, {self.acknowledged} to {self.sent} possible"
            )
        self.acknowledged = offset


@dataclass
class Incoming:
    """One transfer that this side receives, in order and without gaps; without a destination it is discarded."""

    transfer: int
    nbytes: int
    received: int
    acknowledged: int
    destination: Destination | None
    window: int = limits.WINDOW_BYTES  # most bytes received and not acknowledged

    @property
    def is_owed(self) -> bool:
        """Whether the peer has something to send and room for it: its window is not full of what is not taken yet."""
        room, rest = self.acknowledged + self.window - self.received, self.nbytes - self.received
        return rest > 0 and min(rest, step_for(self.window)) <= room

    def check(self, offset: int, nbytes: int) -> None:
        """Raise `RemoteProtocolError` unless a chunk of `nbytes` at `offset` is the next one, within the window."""
        if offset != self.received:
            raise RemoteProtocolError(f"transfer {self.transfer}: chunk at {offset}, expected {self.received}")
        if offset + nbytes > self.nbytes:
            raise RemoteProtocolError(
                f"transfer {self.transfer}: chunk ends at {offset + nbytes}, the transfer has {self.nbytes} bytes"
            )
        if offset + nbytes - self.acknowledged > self.window:
            raise RemoteProtocolError(f"transfer {self.transfer}: sent past the window of {self.window} bytes")
