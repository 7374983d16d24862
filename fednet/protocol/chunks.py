"""Transfers cut into chunks: what to send next within the window, and where a received chunk lands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.frames import ChunkHead


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

    @property
    def is_complete(self) -> bool:
        """Whether the receiver has taken everything."""
        return self.acknowledged == len(self.data)

    def next_chunk(self) -> tuple[ChunkHead, memoryview] | None:
        """Return the next chunk, or None while all is sent or the window is full."""
        nbytes = min(limits.CHUNK_BYTES, len(self.data) - self.sent)
        if nbytes == 0 or self.sent + nbytes - self.acknowledged > limits.WINDOW_BYTES:
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

    @property
    def is_owed(self) -> bool:
        """Whether the peer may send a chunk: its window is not full of what this side has yet to take."""
        return self.received < min(self.nbytes, self.acknowledged + limits.WINDOW_BYTES)

    def check(self, offset: int, nbytes: int) -> None:
        """Raise `RemoteProtocolError` unless a chunk of `nbytes` at `offset` is the next one, within the window."""
        if offset != self.received:
            raise RemoteProtocolError(f"transfer {self.transfer}: chunk at {offset}, expected {self.received}")
        if offset + nbytes > self.nbytes:
            raise RemoteProtocolError(
                f"transfer {self.transfer}: chunk ends at {offset + nbytes}, the transfer has {self.nbytes} bytes"
            )
        if offset + nbytes - self.acknowledged > limits.WINDOW_BYTES:
            raise RemoteProtocolError(f"transfer {self.transfer}: sent past the window of {limits.WINDOW_BYTES} bytes")
