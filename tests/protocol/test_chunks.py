import pytest

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.chunks import Incoming, Outgoing

MIB = 2**20


def test_sending_stops_at_the_window_and_goes_on_when_it_moves() -> None:
    outgoing = Outgoing(1, memoryview(bytes(20 * MIB)), sent=0, acknowledged=0)
    while outgoing.next_chunk() is not None:
        pass
    assert outgoing.sent == limits.WINDOW_BYTES
    outgoing.acknowledge(MIB)
    assert outgoing.next_chunk() is not None


def test_the_last_chunk_is_what_is_left() -> None:
    outgoing = Outgoing(1, memoryview(bytes(limits.CHUNK_BYTES + 5)), sent=limits.CHUNK_BYTES, acknowledged=0)
    chunk = outgoing.next_chunk()
    assert chunk is not None
    assert len(chunk[1]) == 5
    assert outgoing.next_chunk() is None


@pytest.mark.parametrize("offset", [-1, 99, 101])
def test_an_acknowledgement_of_what_was_not_sent_is_refused(offset: int) -> None:
    outgoing = Outgoing(1, memoryview(bytes(200)), sent=100, acknowledged=100)
    with pytest.raises(RemoteProtocolError):
        outgoing.acknowledge(offset)


@pytest.mark.parametrize(
    ("offset", "nbytes", "complaint"),
    [(0, 10, "expected 50"), (60, 10, "expected 50"), (50, 51, "the transfer has 100")],
)
def test_chunks_out_of_order_or_too_long_are_refused(offset: int, nbytes: int, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        Incoming(1, 100, 50, 50, None).check(offset, nbytes)


def test_a_sender_that_ignores_the_window_is_refused() -> None:
    incoming = Incoming(1, 2**30, limits.WINDOW_BYTES, 0, None)
    with pytest.raises(RemoteProtocolError, match="window"):
        incoming.check(limits.WINDOW_BYTES, 1)
