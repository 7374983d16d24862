"""A worker without model or scans: it says what a worker says, and delivers the bytes that it is given."""

from __future__ import annotations

import ssl

from fednet.protocol.messages import (
    Goodbye,
    Hello,
    ModelWanted,
    Ready,
    RoundStarted,
    UpdateOffered,
    UpdateWanted,
    Welcome,
)
from fednet.transport.intake import Intake, MemoryStore
from fednet.transport.link import Link
from fednet.transport.tcp import connect

SAMPLES = 100
"""What every puppet says it trained on: all weigh the same."""


class Puppet:
    """One worker's end of a connection, greeted and ready for rounds."""

    def __init__(self, link: Link) -> None:
        self.link = link

    @classmethod
    async def joined(cls, port: int, context: ssl.SSLContext, *, host: str = "127.0.0.1") -> Puppet:
        """Connect, greet, and be ready, whatever the run trains."""
        link = await connect(host, port, context)
        link.send(Hello(software="puppet"))
        welcome = await link.receive()
        assert isinstance(welcome, Welcome), welcome
        link.send(Ready(manifest=welcome.manifest, samples=SAMPLES, device="cpu"))
        return cls(link)

    async def round_started(self) -> RoundStarted | None:
        """Return the next round, passing over what is said before it; None when the run is over."""
        while not isinstance(message := await self.link.receive(), RoundStarted):
            if isinstance(message, Goodbye):
                return None
        return message

    async def take_model(self, started: RoundStarted, memory: memoryview) -> None:
        """Receive and verify the round's model, into `memory`."""
        intake = Intake(MemoryStore(memory), nbytes=started.nbytes, sha256=started.sha256)
        self.link.expect(started.transfer, nbytes=started.nbytes, offset=0, destination=intake)
        self.link.send(ModelWanted(round=started.round, transfer=started.transfer, offset=0))
        await intake.run(self.link, started.transfer)

    def offer(self, started: RoundStarted, *, nbytes: int, sha256: str, transfer: int | None = None) -> None:
        """Offer an update, as the round's number unless another transfer is named."""
        self.link.send(
            UpdateOffered(
                round=started.round,
                transfer=started.round if transfer is None else transfer,
                nbytes=nbytes,
                sha256=sha256,
                samples=SAMPLES,
                train_s=0.0,
                loss=0.0,
            )
        )

    async def wanted(self) -> UpdateWanted:
        """Return the coordinator's request for the update, passing over what is said before it."""
        while not isinstance(message := await self.link.receive(), UpdateWanted):
            pass
        return message

    async def deliver(self, started: RoundStarted, update: memoryview, *, sha256: str) -> None:
        """Offer an update and begin to send it when it is asked for."""
        self.offer(started, nbytes=len(update), sha256=sha256)
        wanted = await self.wanted()
        self.link.start_transfer(wanted.transfer, update, offset=wanted.offset, window=wanted.window)
