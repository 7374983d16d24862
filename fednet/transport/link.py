"""The asyncio shell of one connection: moves bytes between a transport and a `protocol.Connection`."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections import deque
from collections.abc import Iterator

from fednet.errors import ConnectionLost, FednetError, RemoteProtocolError, TooSlow
from fednet.protocol import limits
from fednet.protocol.chunks import Destination
from fednet.protocol.connection import Connection
from fednet.protocol.messages import Goodbye, Heartbeat, Message
from fednet.protocol.pace import LeastRate
from fednet.protocol.states import Role, State

_READ_AHEAD_MESSAGES = 64  # unread messages at which the link stops reading until its owner has caught up


class Link(asyncio.BufferedProtocol):
    """One live connection to a peer.

    `receive()` gives the peer's messages in order; sending never blocks, because everything queued is bounded by the
    protocol. Heartbeats are sent, answered and timed here. Once the link has failed, `receive()` raises why:
    `RemoteProtocolError` when the peer broke the protocol, else `ConnectionLost`.
    """

    def __init__(self, role: Role, *, begins: State = State.WAITING) -> None:
        """`begins`: a worker's first state; a coordinator's follows from the peer's certificate."""
        self._role = role
        self._begins = begins
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._connection = Connection(role, State.CLOSED)
        self._messages: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._heard = asyncio.Event()
        self._closed = asyncio.Event()
        self._failure: FednetError | None = None
        self._writing_paused = self._reading_paused = False
        self._last_received = self._last_sent = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        least = limits.LEAST_BYTES_PER_S * limits.LEAST_RATE_OVER_S if role is Role.COORDINATOR else 1
        self._inflow = LeastRate(least, over_s=limits.LEAST_RATE_OVER_S)  # a worker shares its link with others' models
        self._outflow = LeastRate(1, over_s=limits.MAX_SILENT_ACKNOWLEDGE_S)
        self.peer = "peer"
        self.address = ""
        self.certificate: bytes | None = None

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the TLS handshake is done, so it is known whether the peer has shown a certificate."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=1)  # one chunk at a time: what is handed over cannot be overtaken
        name = transport.get_extra_info("peername")
        if name:
            self.address, self.peer = name[0], f"{name[0]}:{name[1]}"
        tls = transport.get_extra_info("ssl_object")
        self.certificate = tls.getpeercert(binary_form=True) if tls else transport.get_extra_info("certificate")
        self._connection = Connection(self._role, self._first_state())

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes belong (a memoryview: asyncio's TLS slices it without copying)."""
        return self._connection.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._failure is not None:
            return
        self._last_received = self._loop.time()
        self._heard.set()
        try:
            for message in self._connection.buffer_updated(nbytes, now=self._last_received):
                self._take(message)
        except FednetError as exc:
            self._drop(exc, code="protocol" if isinstance(exc, RemoteProtocolError) else "failed")
            return
        self._flush()

    def eof_received(self) -> bool:
        """Close when the peer has."""
        return False

    def pause_writing(self) -> None:
        """Stop handing over frames: the network is behind."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Go on handing over frames."""
        self._writing_paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits for this link."""
        if self._timer is not None:
            self._timer.cancel()
        if self._failure is None:
            reason = f" ({exc})" if exc else ""
            self._failure = ConnectionLost(f"connection to {self.peer} lost{reason}")
            self._failure.__cause__ = exc
        self._transport = None  # or the two hold each other, and 100 KiB of TLS that no collector sees
        self._arrived.set()
        self._heard.set()  # nothing more will be
        self._closed.set()

    # What the services call

    async def receive(self) -> Message:
        """Return the next message; what arrived before the link failed is still given."""
        while not self._messages:
            if self._failure is not None:
                # a copy, because the frames that an exception passes through hold this link, and it would hold them
                raise copy.copy(self._failure) from self._failure.__cause__
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.popleft()
        if self._reading_paused and not self._messages and self._transport is not None:
            self._reading_paused = False
            self._transport.resume_reading()
        return message

    def send(self, message: Message) -> None:
        """Queue a message ahead of all chunks. On a link that has failed it goes nowhere, as a lost packet would.

        A peer that reads so little that the queue is full is dropped.
        """
        with self._dropping():
            self._connection.send(message)
        self._flush()

    def start_transfer(
        self,
        transfer: int,
        data: memoryview,
        *,
        offset: int,
        window: int = limits.WINDOW_BYTES,
        chunk: int = limits.CHUNK_BYTES,
    ) -> None:
        """Send `data` from `offset` on, as chunks of at most `chunk` bytes, within the receiver's window."""
        self._connection.start_transfer(transfer, data, offset=offset, window=window, chunk=chunk)
        self._flush()

    def stop_transfer(self, transfer: int) -> bool:
        """Send no more chunks of this transfer; return whether it was under way."""
        return self._connection.stop_transfer(transfer)

    @property
    def silent_s(self) -> float:
        """Return for how long nothing has come, heartbeats included."""
        return self._loop.time() - self._last_received

    def taken(self, transfer: int) -> int | None:
        """Return how many bytes of a transfer of ours the peer has taken; None where none is under way."""
        return self._connection.taken(transfer)

    def expect(
        self,
        transfer: int,
        *,
        nbytes: int,
        offset: int,
        destination: Destination,
        window: int = limits.WINDOW_BYTES,
    ) -> None:
        """Take the peer's transfer from `offset` on into `destination`, within the window that it is told."""
        self._connection.expect(transfer, nbytes=nbytes, offset=offset, destination=destination, window=window)

    def discard(self, transfer: int) -> None:
        """Drop what still comes of this transfer."""
        with self._dropping():
            self._connection.discard(transfer)
        self._flush()

    def forget(self, transfer: int) -> None:
        """Expect no more of a transfer that the peer has stopped."""
        self._connection.forget(transfer)

    def received(self, transfer: int, offset: int) -> None:
        """Tell the peer that everything before `offset` was taken."""
        with self._dropping():
            self._connection.received(transfer, offset)
        self._flush()

    def start_heartbeats(self, heartbeat_s: float = limits.HEARTBEAT_S) -> None:
        """From now on say regularly that this side lives, and fail the link when the peer has been silent."""
        self._timer = self._loop.call_later(heartbeat_s, self._tick, heartbeat_s)

    async def is_alive(self, *, within_s: float = limits.ALIVE_WITHIN_S) -> bool:
        """Ask the peer for a sign of life and say whether any byte came back in time."""
        self._heard.clear()
        self.send(Heartbeat(answer_wanted=True))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._heard.wait()
        return self._heard.is_set() and not self._closed.is_set()

    def abort(self, reason: str = "closed by this side") -> None:
        """Drop the connection at once."""
        if self._failure is None:
            self._failure = ConnectionLost(f"connection to {self.peer}: {reason}")
        self._arrived.set()
        if self._transport is not None:
            self._transport.abort()

    async def close(self, code: str, reason: str, *, within_s: float = 1.0) -> None:
        """Say goodbye, let it reach the network, and close; a peer that does not read is dropped after `within_s`."""
        if self._failure is None:
            with contextlib.suppress(FednetError):
                self.send(Goodbye(code=code, reason=reason[: limits.MAX_TEXT]))
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(within_s):
                await self._closed.wait()
        except TimeoutError:
            self.abort(reason)

    async def part(self, code: str, reason: str) -> None:
        """Say goodbye to a peer that is in full flow, and drop it in a moment if it has not hung up.

        What it sends is read until then: a connection that is closed over unread bytes may take the goodbye with it.
        """
        self.send(Goodbye(code=code, reason=reason[: limits.MAX_TEXT]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.PARTING_S):
                await self._closed.wait()
        self.abort(reason)

    @property
    def has_failed(self) -> bool:
        """Whether this link is gone, or about to go."""
        return self._failure is not None

    # Inside

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        """Drop the link where the peer has broken the protocol, instead of troubling whoever had something to say."""
        try:
            yield
        except RemoteProtocolError as exc:
            if self._failure is None:
                self._drop(exc, code="protocol")

    def _first_state(self) -> State:
        if self._role is Role.COORDINATOR:
            return State.IDENTIFIED if self.certificate else State.ANONYMOUS
        return self._begins

    def _take(self, message: Message) -> None:
        if isinstance(message, Heartbeat):
            if message.answer_wanted:
                self._connection.send(Heartbeat())
            return
        self._messages.append(message)
        self._arrived.set()
        if len(self._messages) >= _READ_AHEAD_MESSAGES and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def _flush(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        while not self._writing_paused and (frame := self._connection.next_frame()) is not None:
            head, bulk = frame
            self._last_sent = self._loop.time()
            if bulk is None:
                self._transport.write(head)
            else:
                self._transport.writelines([head, bulk])

    def _drop(self, failure: FednetError, *, code: str) -> None:
        self._failure = failure.with_traceback(None)  # its frames hold this link
        self._arrived.set()
        if self._transport is not None:
            goodbye = Goodbye(code=code, reason=str(failure)[: limits.MAX_TEXT])
            if not self._writing_paused:
                self._transport.write(goodbye.encode())
            self._transport.abort()

    def _tick(self, heartbeat_s: float) -> None:
        now = self._loop.time()
        if now - self._last_received > limits.DEAD_AFTER_S:
            self.abort(f"no sign of life for {limits.DEAD_AFTER_S:.0f} s")
            return
        slow = self._slowness(now)
        if slow is not None:
            self._drop(TooSlow(f"connection to {self.peer} dropped: {slow}"), code="too-slow")
            return
        if now - self._last_sent >= heartbeat_s / 2:
            self.send(Heartbeat())
        self._timer = self._loop.call_later(heartbeat_s, self._tick, heartbeat_s)

    def _slowness(self, now: float) -> str | None:
        """Return why this peer is too slow to be kept, or None."""
        connection = self._connection
        if self._inflow.is_too_slow(connection.received_bytes, owes=connection.is_owed, now=now):
            what = f"came at less than {limits.LEAST_BYTES_PER_S // 1024} KiB/s"
            return f"a transfer {what if self._role is Role.COORDINATOR else 'stopped coming'}"
        if self._outflow.is_too_slow(connection.acknowledged_bytes, owes=connection.awaits_acknowledgement, now=now):
            return f"a transfer was not read for {limits.MAX_SILENT_ACKNOWLEDGE_S:.0f} s"
        return None
