import asyncio

from fednet.protocol.messages import Hello
from fednet.transport.memory import memory_pair


async def test_a_reader_that_pauses_makes_the_writer_pause() -> None:
    coordinator, worker = memory_pair()
    transport = coordinator._transport
    assert transport is not None
    transport.pause_reading()
    for _ in range(100):
        worker.send(Hello(software="x" * 4000))
    await asyncio.sleep(0)
    assert worker._writing_paused
    worker.abort()
