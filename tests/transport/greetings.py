"""Links that have greeted each other, for tests."""

from fednet.protocol.messages import Hello, Ready, Welcome
from fednet.transport.link import Link
from fednet.transport.memory import memory_pair


async def greeted() -> tuple[Link, Link]:
    """Return (coordinator, worker), both ready for rounds."""
    coordinator, worker = memory_pair()
    worker.send(Hello(software="test"))
    await coordinator.receive()
    coordinator.send(Welcome(run="r", worker="w", settings={}, manifest="ab" * 32, heartbeat_s=10.0))
    await worker.receive()
    worker.send(Ready(manifest="ab" * 32, samples=1, device="cpu"))
    await coordinator.receive()
    return coordinator, worker
