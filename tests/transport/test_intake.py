import asyncio
import hashlib

import pytest

from fednet.errors import RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.chunks import step_for
from fednet.protocol.messages import ChunksReceived
from fednet.transport.intake import Intake, MemoryStore
from tests.transport.greetings import greeted

DATA = bytes(range(256)) * 20_000  # 5 MB


def intake_of(memory: bytearray, sha256: str | None = None) -> Intake:
    digest = sha256 or hashlib.sha256(DATA).hexdigest()
    return Intake(MemoryStore(memoryview(memory)), nbytes=len(DATA), sha256=digest)


async def test_a_transfer_goes_on_over_a_second_connection() -> None:
    memory = bytearray(len(DATA))
    intake = intake_of(memory)
    coordinator, worker = await greeted()
    worker.expect(1, nbytes=len(DATA), offset=0, destination=intake)
    running = asyncio.ensure_future(intake.run(worker, 1))
    coordinator.start_transfer(1, memoryview(DATA)[: step_for(limits.WINDOW_BYTES)], offset=0)
    assert await coordinator.receive() == ChunksReceived(transfer=1, offset=step_for(limits.WINDOW_BYTES))
    running.cancel()
    coordinator.abort()
    assert intake.offset == step_for(limits.WINDOW_BYTES)

    coordinator, worker = await greeted()
    worker.expect(1, nbytes=len(DATA), offset=intake.offset, destination=intake)
    coordinator.start_transfer(1, memoryview(DATA), offset=intake.offset)
    await intake.run(worker, 1)
    assert bytes(memory) == DATA


async def test_a_wrong_digest_is_reported_with_both_and_starts_over() -> None:
    intake = intake_of(bytearray(len(DATA)), sha256="00" * 32)
    coordinator, worker = await greeted()
    worker.expect(1, nbytes=len(DATA), offset=0, destination=intake)
    coordinator.start_transfer(1, memoryview(DATA), offset=0)
    with pytest.raises(RemoteProtocolError, match=f"{hashlib.sha256(DATA).hexdigest()}.*{'00' * 32}"):
        await intake.run(worker, 1)
    assert intake.offset == 0


async def test_a_transfer_that_is_here_already_needs_nothing() -> None:
    intake = Intake(MemoryStore(memoryview(bytearray(0))), nbytes=0, sha256=hashlib.sha256(b"").hexdigest())
    _, worker = await greeted()
    await intake.run(worker, 1)
