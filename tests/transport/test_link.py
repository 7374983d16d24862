import asyncio
import hashlib

import pytest

from fednet.errors import ConnectionLost, RemoteProtocolError, TooSlow
from fednet.protocol import limits
from fednet.protocol.messages import ChunksReceived, Goodbye, Hello, Progress, Ready, RunStatus, Welcome
from fednet.transport.intake import Intake, MemoryStore
from fednet.transport.link import Link
from fednet.transport.memory import memory_pair
from tests.transport.greetings import greeted


async def test_messages_arrive_in_order() -> None:
    coordinator, worker = await greeted()
    for number in range(200):  # more than the link reads ahead: it stops and starts reading
        coordinator.send(RunStatus(text=str(number)))
        await asyncio.sleep(0)
    assert [await worker.receive() for _ in range(200)] == [RunStatus(text=str(number)) for number in range(200)]


async def test_a_transfer_arrives_while_messages_go_on() -> None:
    coordinator, worker = await greeted()
    data = bytes(range(256)) * 60_000  # 15 MB: more than the window
    memory = bytearray(len(data))
    intake = Intake(MemoryStore(memoryview(memory)), nbytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    worker.expect(1, nbytes=len(data), offset=0, destination=intake)
    coordinator.start_transfer(1, memoryview(data), offset=0)
    coordinator.send(RunStatus(text="meanwhile"))
    await intake.run(worker, 1)
    assert bytes(memory) == data
    assert await worker.receive() == RunStatus(text="meanwhile")
    assert await coordinator.receive() == ChunksReceived(transfer=1, offset=len(data))


async def test_what_arrived_before_the_end_is_still_given() -> None:
    coordinator, worker = await greeted()
    worker_goodbye = Goodbye(code="left", reason="bye")
    worker.send(worker_goodbye)
    await worker.close("left", "again")
    assert await coordinator.receive() == worker_goodbye
    with pytest.raises((ConnectionLost, RemoteProtocolError)):
        await coordinator.receive()


async def test_a_peer_that_breaks_the_protocol_is_told_and_dropped() -> None:
    coordinator, worker = memory_pair()
    worker.send(Ready(manifest="ab" * 32, samples=1, device="cpu"))
    with pytest.raises(RemoteProtocolError, match="READY is not allowed"):
        await coordinator.receive()
    answer = await worker.receive()
    assert isinstance(answer, Goodbye)
    assert answer.code == "protocol"


async def test_a_lost_connection_is_lost_for_both() -> None:
    coordinator, worker = await greeted()
    coordinator.abort("test")
    with pytest.raises(ConnectionLost, match="test"):
        await coordinator.receive()
    with pytest.raises(ConnectionLost):
        await worker.receive()


async def test_a_living_peer_answers_a_probe() -> None:
    coordinator, worker = await greeted()
    assert await coordinator.is_alive(within_s=1.0)
    assert await worker.is_alive(within_s=1.0)


async def test_a_silent_peer_does_not() -> None:
    coordinator, worker = await greeted()
    silence(worker)
    assert not await coordinator.is_alive(within_s=0.05)


def silence(link: Link) -> None:
    """Make a link deaf, as a machine that has lost its network is."""
    transport = link._transport
    assert transport is not None
    transport.pause_reading()


async def test_a_silent_link_is_found_by_its_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEAD_AFTER_S", 0.05)
    coordinator, worker = await greeted()
    silence(worker)
    coordinator.start_heartbeats(0.02)
    with pytest.raises(ConnectionLost, match="no sign of life"):
        await coordinator.receive()


async def test_heartbeats_keep_an_idle_link_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DEAD_AFTER_S", 0.2)
    coordinator, worker = await greeted()
    coordinator.start_heartbeats(0.02)
    worker.start_heartbeats(0.02)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await coordinator.receive()
    coordinator.abort()
    worker.abort()


async def test_a_transfer_that_comes_too_slowly_is_dropped_though_the_peer_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LEAST_RATE_OVER_S", 0.1)
    coordinator, worker = await greeted()
    coordinator.expect(1, nbytes=1000, offset=0, destination=Unread())
    coordinator.start_heartbeats(0.03)
    worker.start_heartbeats(0.03)
    with pytest.raises(TooSlow, match="less than 16 KiB/s"):
        await coordinator.receive()
    answer = await worker.receive()
    assert isinstance(answer, Goodbye)
    assert answer.code == "too-slow"


async def test_a_transfer_that_nobody_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SILENT_ACKNOWLEDGE_S", 0.1)
    coordinator, worker = await greeted()
    worker.expect(1, nbytes=1000, offset=0, destination=Unread())
    coordinator.start_transfer(1, memoryview(bytes(1000)), offset=0)
    coordinator.start_heartbeats(0.03)
    worker.start_heartbeats(0.03)
    with pytest.raises(TooSlow, match="not read"):
        await coordinator.receive()


class Unread:
    def buffer(self, offset: int, nbytes: int) -> memoryview:
        return memoryview(bytearray(nbytes))

    def chunk_received(self, offset: int, data: memoryview) -> None:
        """Never acknowledges."""


async def test_too_many_messages_are_refused() -> None:
    coordinator, worker = await greeted()
    with pytest.raises(RemoteProtocolError, match="more than 50 PROGRESS frames a second"):
        for _ in range(1000):
            worker.send(Progress(round=1, fraction=0.5, remaining_s=1.0, images_per_s=1.0, loss=1.0))
            await asyncio.sleep(0)
            await asyncio.wait_for(coordinator.receive(), 1)


async def test_a_peer_without_a_certificate_can_only_enrol() -> None:
    coordinator, worker = memory_pair(certificate=None)
    worker.send(Hello(software="test"))
    with pytest.raises(RemoteProtocolError, match="anonymous"):
        await coordinator.receive()


async def test_greeting() -> None:
    coordinator, worker = memory_pair()
    worker.send(Hello(software="test"))
    assert isinstance(await coordinator.receive(), Hello)
    coordinator.send(Welcome(run="r", worker="w", settings={}, manifest="ab" * 32, heartbeat_s=1.0))
    assert isinstance(await worker.receive(), Welcome)
