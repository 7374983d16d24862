"""One session of the protocol without I/O: bytes in by `get_buffer`/`buffer_updated`, messages and frames out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fednet.errors import LocalProtocolError, RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.chunks import Destination, Incoming, Outgoing, chunk_for
from fednet.protocol.frames import (
    CHUNK_HEAD_BYTES,
    HEADER_BYTES,
    Header,
    Kind,
    decode_chunk_head,
    decode_header,
    encode_chunk_head,
)
from fednet.protocol.messages import ChunksReceived, Message, decode_message
from fednet.protocol.pace import MessageBudget
from fednet.protocol.states import RECEIVE, SEND, Role, State

_READ_AHEAD_BYTES = 4096  # read at a time where a frame begins: each read is a turn of the event loop

Frame = tuple[bytes, memoryview | None]
"""What to write next: encoded bytes, and for a chunk the tensor's memory that follows them."""


class Connection:
    """The protocol of one connection.

    The owner reads into `get_buffer()` and reports with `buffer_updated`, which yields the messages that became
    complete; it writes what `next_frame()` returns while the link takes it. Chunks go straight into the destination
    that `expect` was given, but for their first bytes, which may come with a header. After a `RemoteProtocolError` the
    connection must be dropped.
    """

    def __init__(self, role: Role, state: State) -> None:
        self.role = role
        self.state = state
        self._control: deque[bytes] = deque()
        self._outgoing: dict[int, Outgoing] = {}
        self._incoming: dict[int, Incoming] = {}
        self._small = memoryview(bytearray(max(HEADER_BYTES, CHUNK_HEAD_BYTES)))
        self._scratch: memoryview | None = None
        self._header: Header | None = None
        self._landing: Incoming | None = None
        self._target = self._small[:HEADER_BYTES]
        self._filled = 0
        self._ahead = memoryview(bytearray(_READ_AHEAD_BYTES))
        self._budget = MessageBudget()
        self.received_bytes = 0  # of everything the peer sent
        self.acknowledged_bytes = 0  # of everything we sent as chunks

    @property
    def is_owed(self) -> bool:
        """Whether the peer has chunks to send, and room in the window for them."""
        return any(incoming.is_owed for incoming in self._incoming.values())

    @property
    def awaits_acknowledgement(self) -> bool:
        """Whether the peer has been sent chunks that it has not acknowledged."""
        return any(outgoing.sent > outgoing.acknowledged for outgoing in self._outgoing.values())

    # Receiving

    def get_buffer(self) -> memoryview:
        """Return where the next bytes belong; never empty."""
        return self._target[self._filled :] if self._landing is not None else self._ahead

    def buffer_updated(self, nbytes: int, *, now: float) -> Iterator[Message]:
        """Take `nbytes` bytes that were written to `get_buffer()`; yield the messages they complete.

        `now`: seconds of one clock. Of the acknowledgements only the one that completes a transfer is yielded.
        """
        self.received_bytes += nbytes
        if self._landing is not None:
            self._filled += nbytes
            yield from self._advance(now)
            return
        data = self._ahead[:nbytes]
        while data:
            count = min(len(data), len(self._target) - self._filled)
            self._target[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]
            yield from self._advance(now)

    def _advance(self, now: float) -> list[Message]:
        if self._filled < len(self._target):
            return []
        target, self._filled = self._target, 0
        if self._header is None:
            self._begin(decode_header(target), now)
        elif self._header.kind is not Kind.CHUNK:
            return self._finish_control(self._header.kind, target)
        elif self._landing is None:
            self._aim(target, self._header.bulk_bytes)
        else:
            self._finish_chunk(self._landing, target)
        return []

    def expect(
        self,
        transfer: int,
        *,
        nbytes: int,
        offset: int,
        destination: Destination,
        window: int = limits.WINDOW_BYTES,
    ) -> None:
        """Accept the peer's transfer from `offset` on, into `destination`, within the window that it was told."""
        if len(self._incoming) >= limits.MAX_TRANSFERS:
            raise RemoteProtocolError(f"more than {limits.MAX_TRANSFERS} transfers at a time")
        if transfer in self._incoming:
            raise RemoteProtocolError(f"transfer {transfer} is under way already")
        if offset < nbytes:
            self._incoming[transfer] = Incoming(transfer, nbytes, offset, offset, destination, window)

    def discard(self, transfer: int) -> None:
        """Read the rest of a transfer into nothing: it is not wanted any more, but its chunks are on their way."""
        if transfer in self._incoming:
            self._incoming[transfer].destination = None
            self.received(transfer, self._incoming[transfer].received)

    def forget(self, transfer: int) -> None:
        """Expect no more of a transfer that the peer has stopped: what it has sent of it is here already."""
        self._incoming.pop(transfer, None)

    def _begin(self, header: Header, now: float) -> None:
        if header.kind not in RECEIVE.get((self.role, self.state), {}):
            raise RemoteProtocolError(f"{header.kind.name} is not allowed while {self.state.value}")
        self._budget.take(header.kind, now=now)
        self._header = header
        small = header.head_bytes <= len(self._small)
        self._target = self._small[: header.head_bytes] if small else memoryview(bytearray(header.head_bytes))

    def _finish_control(self, kind: Kind, document: memoryview) -> list[Message]:
        message = decode_message(kind, document)
        self.state = RECEIVE[self.role, self.state][kind]
        self._next_header()
        if isinstance(message, ChunksReceived) and not self._completes(message):
            return []
        return [message]

    def _aim(self, head_bytes: memoryview, nbytes: int) -> None:
        head = decode_chunk_head(head_bytes, nbytes)
        incoming = self._incoming.get(head.transfer)
        if incoming is None:
            raise RemoteProtocolError(f"chunk of transfer {head.transfer}, which was not asked for")
        incoming.check(head.offset, nbytes)
        self._landing = incoming
        if incoming.destination is None:
            self._scratch = self._scratch or memoryview(bytearray(limits.MAX_CHUNK_BYTES))
            self._target = self._scratch[:nbytes]
        else:
            self._target = incoming.destination.buffer(head.offset, nbytes)

    def _finish_chunk(self, incoming: Incoming, data: memoryview) -> None:
        offset, incoming.received = incoming.received, incoming.received + len(data)
        if incoming.received == incoming.nbytes:
            del self._incoming[incoming.transfer]
        self._next_header()
        if incoming.destination is None:
            self.received(incoming.transfer, incoming.received)
        else:
            incoming.destination.chunk_received(offset, data)

    def _next_header(self) -> None:
        self._header = self._landing = None
        self._target = self._small[:HEADER_BYTES]

    # Sending

    def send(self, message: Message) -> None:
        """Queue a control message; it overtakes all chunks that are not written yet."""
        if message.kind not in SEND[self.role]:
            raise LocalProtocolError(f"a {self.role.value} does not send {message.kind.name}")
        if len(self._control) >= limits.MAX_QUEUED_MESSAGES:
            raise RemoteProtocolError(f"peer does not read: {limits.MAX_QUEUED_MESSAGES} messages are queued for it")
        self._control.append(message.encode())

    def start_transfer(
        self,
        transfer: int,
        data: memoryview,
        *,
        offset: int,
        window: int = limits.WINDOW_BYTES,
        chunk: int = limits.CHUNK_BYTES,
    ) -> None:
        """Queue `data` (bytes, the whole transfer) from `offset` on; it must not change until it is complete.

        `window` is the receiver's, in bytes; chunks have at most `chunk` bytes, and less where the window is small.
        """
        if not 0 <= offset <= len(data):
            raise RemoteProtocolError(f"transfer {transfer}: peer wants offset {offset} of {len(data)} bytes")
        if transfer in self._outgoing:
            raise RemoteProtocolError(f"transfer {transfer} is under way already")
        if len(self._outgoing) >= limits.MAX_TRANSFERS:
            raise RemoteProtocolError(f"more than {limits.MAX_TRANSFERS} transfers at a time")
        if offset < len(data):
            size = min(chunk, chunk_for(window))
            self._outgoing[transfer] = Outgoing(transfer, data, offset, offset, window=window, chunk=size)

    def stop_transfer(self, transfer: int) -> bool:
        """Send no more chunks of a transfer, and ignore acknowledgements of it; return whether it was under way."""
        return self._outgoing.pop(transfer, None) is not None

    def taken(self, transfer: int) -> int | None:
        """Return how many bytes of a transfer of ours the peer has taken; None where none is under way."""
        outgoing = self._outgoing.get(transfer)
        return None if outgoing is None else outgoing.acknowledged

    def received(self, transfer: int, offset: int) -> None:
        """Tell the peer that everything before `offset` was taken."""
        if transfer in self._incoming:
            self._incoming[transfer].acknowledged = offset
        self.send(ChunksReceived(transfer=transfer, offset=offset))

    def next_frame(self) -> Frame | None:
        """Return what to write next: a queued message, else a chunk that the window allows, else None."""
        if self._control:
            return self._control.popleft(), None
        for outgoing in self._outgoing.values():
            chunk = outgoing.next_chunk()
            if chunk is not None:
                head, data = chunk
                return encode_chunk_head(head, len(data)), data
        return None

    def _completes(self, message: ChunksReceived) -> bool:
        outgoing = self._outgoing.get(message.transfer)
        if outgoing is None:
            return False
        before = outgoing.acknowledged
        outgoing.acknowledge(message.offset)
        self.acknowledged_bytes += outgoing.acknowledged - before
        if outgoing.is_complete:
            del self._outgoing[message.transfer]
        return outgoing.is_complete
