"""Two connections that talk to each other in any order: whatever the owners do, bytes arrive whole and in order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.connection import Connection
from fednet.protocol.messages import ChunksReceived, Hello, Message, Progress, Ready, RunStatus, Welcome
from fednet.protocol.states import Role, State
from tests.protocol.test_connection import HELLO, READY, WELCOME, feed

KIB = 1024


class Landing:
    """A destination whose owner may take what arrived later."""

    def __init__(self, nbytes: int) -> None:
        self.memory = bytearray(nbytes)
        self.offset = 0

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        return memoryview(self.memory)[offset : offset + nbytes]

    def chunk_received(self, offset: int, data: memoryview) -> None:
        assert offset == self.offset, "chunks come in order and without gaps"
        self.offset += len(data)


class TwoEnds(RuleBasedStateMachine):
    """A coordinator sends models, a worker takes them; messages go both ways; the wire delivers as it likes."""

    @initialize()
    def greet(self) -> None:
        self.coordinator = Connection(Role.COORDINATOR, State.IDENTIFIED)
        self.worker = Connection(Role.WORKER, State.WAITING)
        self.wire: dict[str, bytearray] = {"down": bytearray(), "up": bytearray()}
        self.texts: list[str] = []
        self.heard: list[Message] = []
        self.transfers: dict[int, tuple[bytes, Landing]] = {}
        self.worker.send(HELLO)
        self._move_all()
        self.coordinator.send(WELCOME)
        self._move_all()
        self.worker.send(READY)
        self._move_all()
        assert [type(message) for message in self.heard] == [Hello, Welcome, Ready]

    @precondition(lambda self: len(self.transfers) < limits.MAX_TRANSFERS)
    @rule(
        nbytes=st.integers(1, 3 * limits.MIN_WINDOW_BYTES),
        share=st.floats(0, 1),
        chunk=st.sampled_from([7 * KIB, 64 * KIB, limits.CHUNK_BYTES]),
    )
    def offer(self, nbytes: int, share: float, chunk: int) -> None:
        number, window = len(self.transfers) + 1, limits.MIN_WINDOW_BYTES
        data, offset = bytes((number + at) % 251 for at in range(nbytes)), int(share * nbytes)
        landing = Landing(nbytes)
        landing.memory[:offset] = data[:offset]
        landing.offset = offset
        self.worker.expect(number, nbytes=nbytes, offset=offset, destination=landing, window=window)
        self.coordinator.start_transfer(number, memoryview(data), offset=offset, window=window, chunk=chunk)
        self.transfers[number] = (data, landing)

    @rule()
    def acknowledge(self) -> None:
        for number, (data, landing) in list(self.transfers.items()):
            if landing.offset < len(data):
                self.worker.received(number, landing.offset)

    @rule(text=st.text(max_size=50))
    def say(self, text: str) -> None:
        if len(self.texts) < 200:
            self.texts.append(text)
            self.coordinator.send(RunStatus(text=text))
            self.worker.send(Progress(round=1, fraction=0.5, remaining_s=1.0, images_per_s=1.0, loss=1.0))

    @rule(frames=st.integers(1, 20))
    def write(self, frames: int) -> None:
        self._write(self.coordinator, "down", frames)
        self._write(self.worker, "up", frames)

    @rule(nbytes=st.integers(1, 200 * KIB), step=st.sampled_from([None, 1000]))
    def deliver(self, nbytes: int, step: int | None) -> None:
        self._deliver(self.worker, "down", nbytes, step)
        self._deliver(self.coordinator, "up", nbytes, step)

    @invariant()
    def nothing_is_lost_or_out_of_order(self) -> None:
        if not hasattr(self, "texts"):
            return
        said = [message.text for message in self.heard if isinstance(message, RunStatus)]
        assert said == self.texts[: len(said)]
        for data, landing in self.transfers.values():
            assert landing.memory[: landing.offset] == data[: landing.offset]

    def teardown(self) -> None:
        if not hasattr(self, "texts"):
            return
        for _ in range(60):
            self.acknowledge()
            self._move_all()
        assert [message.text for message in self.heard if isinstance(message, RunStatus)] == self.texts
        assert all(bytes(landing.memory) == data for data, landing in self.transfers.values())

    def _move_all(self) -> None:
        self._write(self.coordinator, "down", 10_000)
        self._write(self.worker, "up", 10_000)
        self._deliver(self.worker, "down", 2**40, None)
        self._deliver(self.coordinator, "up", 2**40, None)

    def _write(self, connection: Connection, way: str, frames: int) -> None:
        for _ in range(frames):
            frame = connection.next_frame()
            if frame is None:
                return
            head, bulk = frame
            self.wire[way] += head + bytes(bulk or b"")

    def _deliver(self, connection: Connection, way: str, nbytes: int, step: int | None) -> None:
        data, self.wire[way] = bytes(self.wire[way][:nbytes]), self.wire[way][nbytes:]
        heard = feed(connection, data, step)
        self.heard += [message for message in heard if not isinstance(message, ChunksReceived)]


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_window_that_is_not_kept_is_refused() -> None:
    worker = Connection(Role.WORKER, State.JOINED)
    coordinator = Connection(Role.COORDINATOR, State.JOINED)
    nbytes = 4 * limits.MIN_WINDOW_BYTES
    worker.expect(1, nbytes=nbytes, offset=0, destination=Landing(nbytes), window=limits.MIN_WINDOW_BYTES)
    coordinator.start_transfer(1, memoryview(bytes(nbytes)), offset=0)  # as if the worker had named no window
    with pytest.raises(RemoteProtocolError, match="past the window"):
        for _ in range(10):
            frame = coordinator.next_frame()
            assert frame is not None
            feed(worker, frame[0] + bytes(frame[1] or b""))
