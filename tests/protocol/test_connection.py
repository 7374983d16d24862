import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.errors import LocalProtocolError, RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.connection import Connection
from fednet.protocol.frames import ChunkHead, encode_chunk_head
from fednet.protocol.messages import (
    ChunksReceived,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Progress,
    Ready,
    RoundStarted,
    Welcome,
)
from fednet.protocol.states import Role, State

HELLO = Hello(software="test")
READY = Ready(manifest="ab" * 32, samples=3, device="cpu")
WELCOME = Welcome(run="r", worker="w", settings={}, manifest="ab" * 32, heartbeat_s=10.0)


STARTED = RoundStarted(round=1, rounds=2, transfer=9, nbytes=10, sha256="ab" * 32, training={}, seed=0, remaining_s=1.0)


class Memory:
    def __init__(self, nbytes: int) -> None:
        self.data = bytearray(nbytes)
        self.chunks: list[tuple[int, int]] = []

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        return memoryview(self.data)[offset : offset + nbytes]

    def chunk_received(self, offset: int, data: memoryview) -> None:
        self.chunks.append((offset, len(data)))


def feed(connection: Connection, data: bytes, step: int | None = None, *, now: float = 0.0) -> list[Message]:
    """Feed `data` in pieces of at most `step` bytes."""
    messages: list[Message] = []
    while data:
        target = connection.get_buffer()
        assert len(target) > 0
        count = min(len(target), len(data), step or len(data))
        target[:count] = data[:count]
        messages += connection.buffer_updated(count, now=now)
        data = data[count:]
    return messages


def written(connection: Connection) -> Iterator[bytes]:
    while (frame := connection.next_frame()) is not None:
        head, bulk = frame
        yield head + (bytes(bulk) if bulk is not None else b"")


def joined() -> tuple[Connection, Connection]:
    """Return (coordinator, worker) that have greeted each other."""
    coordinator = Connection(Role.COORDINATOR, State.IDENTIFIED)
    worker = Connection(Role.WORKER, State.WAITING)
    for message in (HELLO, READY):
        feed(coordinator, message.encode())
    feed(worker, WELCOME.encode())
    return coordinator, worker


@pytest.mark.parametrize("step", [None, 1, 7])
def test_messages_come_out_however_the_bytes_come_in(step: int | None) -> None:
    coordinator = Connection(Role.COORDINATOR, State.IDENTIFIED)
    assert feed(coordinator, HELLO.encode() + READY.encode(), step) == [HELLO, READY]


@pytest.mark.parametrize("step", [None, 1, 4096])
def test_a_transfer_lands_in_its_destination(step: int | None) -> None:
    coordinator, worker = joined()
    nbytes = 3000 if step == 1 else 3 * limits.CHUNK_BYTES + 17
    payload = bytes(range(256)) * (nbytes // 256 + 1)
    memory = Memory(nbytes)
    worker.expect(5, nbytes=nbytes, offset=0, destination=memory)
    coordinator.start_transfer(5, memoryview(payload)[:nbytes], offset=0)
    for frame in written(coordinator):
        feed(worker, frame, step)
    assert bytes(memory.data) == payload[:nbytes]


def test_a_transfer_goes_on_from_an_offset() -> None:
    coordinator, worker = joined()
    memory = Memory(100)
    worker.expect(5, nbytes=100, offset=60, destination=memory)
    coordinator.start_transfer(5, memoryview(bytes([7]) * 100), offset=60)
    for frame in written(coordinator):
        feed(worker, frame)
    assert memory.chunks == [(60, 40)]
    assert bytes(memory.data) == bytes(60) + bytes([7]) * 40


def test_a_message_overtakes_all_chunks_but_the_one_that_is_written() -> None:
    coordinator, _ = joined()
    coordinator.start_transfer(5, memoryview(bytes(5 * limits.CHUNK_BYTES)), offset=0)
    coordinator.next_frame()
    coordinator.send(Heartbeat())
    frame = coordinator.next_frame()
    assert frame == (Heartbeat().encode(), None)


def test_sent_tensor_memory_is_not_copied() -> None:
    coordinator, _ = joined()
    data = bytearray(100)
    coordinator.start_transfer(5, memoryview(data), offset=0)
    frame = coordinator.next_frame()
    assert frame is not None and frame[1] is not None
    assert frame[1].obj is data


def test_completion_is_reported_once_and_other_acknowledgements_are_silent() -> None:
    coordinator, worker = joined()
    nbytes = 2 * limits.CHUNK_BYTES
    coordinator.start_transfer(5, memoryview(bytes(nbytes)), offset=0)
    list(written(coordinator))
    worker.received(5, limits.CHUNK_BYTES)
    worker.received(5, nbytes)
    answers = [feed(coordinator, frame) for frame in written(worker)]
    assert answers == [[], [ChunksReceived(transfer=5, offset=nbytes)]]


def test_how_much_of_a_transfer_the_peer_has_taken_is_known_while_it_is_under_way() -> None:
    coordinator, worker = joined()
    nbytes = 2 * limits.CHUNK_BYTES
    assert coordinator.taken(5) is None
    coordinator.start_transfer(5, memoryview(bytes(nbytes)), offset=0)
    list(written(coordinator))
    known = [coordinator.taken(5)]
    for offset in (limits.CHUNK_BYTES, nbytes):
        worker.received(5, offset)
        for frame in written(worker):
            feed(coordinator, frame)
        known.append(coordinator.taken(5))
    assert known == [0, limits.CHUNK_BYTES, None]


def test_a_discarded_transfer_is_read_to_its_end_and_acknowledged() -> None:
    coordinator, worker = joined()
    nbytes = 3 * limits.WINDOW_BYTES
    worker.expect(5, nbytes=nbytes, offset=0, destination=Memory(nbytes))
    worker.discard(5)
    coordinator.start_transfer(5, memoryview(bytes(nbytes)), offset=0)
    for _ in range(4):
        for frame in written(coordinator):
            feed(worker, frame)
        for frame in written(worker):
            feed(coordinator, frame)
    assert coordinator.next_frame() is None
    assert feed(worker, STARTED.encode()) == [STARTED]


def test_no_certificate_means_nothing_but_enrolment() -> None:
    anonymous = Connection(Role.COORDINATOR, State.ANONYMOUS)
    with pytest.raises(RemoteProtocolError, match="HELLO is not allowed while anonymous"):
        feed(anonymous, HELLO.encode())


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        (READY, "READY is not allowed while identified"),
        (Progress(round=1, fraction=0.0, remaining_s=0.0, images_per_s=0.0, loss=0.0), "PROGRESS"),
        (WELCOME, "WELCOME"),
    ],
)
def test_what_comes_before_its_time_is_refused(first: Message, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        feed(Connection(Role.COORDINATOR, State.IDENTIFIED), first.encode())


def test_a_chunk_before_welcome_is_refused() -> None:
    frame = encode_chunk_head(ChunkHead(1, 0), 4) + b"data"
    with pytest.raises(RemoteProtocolError, match="CHUNK is not allowed"):
        feed(Connection(Role.COORDINATOR, State.IDENTIFIED), frame)


def test_a_chunk_nobody_asked_for_is_refused() -> None:
    coordinator, _ = joined()
    with pytest.raises(RemoteProtocolError, match="not asked for"):
        feed(coordinator, encode_chunk_head(ChunkHead(1, 0), 4) + b"data")


def test_nothing_is_taken_after_goodbye() -> None:
    coordinator, _ = joined()
    feed(coordinator, Goodbye(code="left", reason="bye").encode())
    with pytest.raises(RemoteProtocolError, match="while closed"):
        feed(coordinator, Heartbeat().encode())


def test_a_role_sends_only_its_own_messages() -> None:
    with pytest.raises(LocalProtocolError):
        Connection(Role.WORKER, State.WAITING).send(WELCOME)


def test_the_queue_for_a_peer_that_does_not_read_is_bounded() -> None:
    coordinator, _ = joined()
    with pytest.raises(RemoteProtocolError, match="does not read"):
        for _ in range(limits.MAX_QUEUED_MESSAGES + 1):
            coordinator.send(Heartbeat())


def test_the_number_of_transfers_is_bounded() -> None:
    coordinator, _ = joined()
    with pytest.raises(RemoteProtocolError, match="at a time"):
        for transfer in range(limits.MAX_TRANSFERS + 1):
            coordinator.expect(transfer, nbytes=10, offset=0, destination=Memory(10))


@given(st.binary(max_size=200), st.integers(1, 50))
@settings(max_examples=300)
def test_any_bytes_give_messages_or_a_remote_protocol_error(data: bytes, step: int) -> None:
    coordinator, _ = joined()
    with contextlib.suppress(RemoteProtocolError):
        feed(coordinator, b"FN\x02" + data, step)


def test_a_transfer_that_the_peer_has_stopped_is_owed_no_more() -> None:
    _, worker = joined()
    worker.expect(5, nbytes=100, offset=0, destination=Memory(100))
    owed = [worker.is_owed]
    worker.forget(5)
    assert [*owed, worker.is_owed] == [True, False]
    worker.expect(5, nbytes=100, offset=0, destination=Memory(100))


def test_nothing_is_owed_while_the_window_is_full_of_what_this_side_has_not_taken() -> None:
    coordinator, worker = joined()
    nbytes, window = 2**20, limits.MIN_WINDOW_BYTES
    worker.expect(5, nbytes=nbytes, offset=0, destination=Memory(nbytes), window=window)
    coordinator.start_transfer(5, memoryview(bytes(nbytes)), offset=0, window=window, chunk=30_000)  # no divisor of it
    for frame in written(coordinator):
        feed(worker, frame)
    owed = [worker.is_owed]
    worker.received(5, window // 2)
    assert [*owed, worker.is_owed] == [False, True]
    assert coordinator.awaits_acknowledgement


def test_at_most_so_many_transfers_are_sent_at_a_time() -> None:
    coordinator, _ = joined()
    for transfer in range(limits.MAX_TRANSFERS):
        coordinator.start_transfer(transfer, memoryview(bytes(10)), offset=0)
    with pytest.raises(RemoteProtocolError, match="transfers at a time"):
        coordinator.start_transfer(99, memoryview(bytes(10)), offset=0)
