"""A real coordinator and a real worker over mutual TLS, through a proxy that is as bad as a hospital's link."""

import asyncio
import hashlib
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.config import WorkerName
from fednet.protocol import limits
from fednet.protocol.messages import Hello, Progress, Ready, Welcome
from fednet.protocol.states import State
from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import credentials_in
from fednet.tensors import Manifest, bytes_of
from fednet.transport.intake import Intake, MemoryStore
from fednet.transport.link import Link
from fednet.transport.tcp import Listener, connect
from fednet.worker import service as worker_service
from tests.federation import Federation, settings
from tests.security.certs import authority_in, enrolled
from tests.transport.rough_proxy import Fate, RoughProxy
from tests.worker.fakes import TinyNet

MIB = 2**20
BREAKS = 200
PLANNED = 210  # a connection may be turned away because the broken one before it is not yet known to be dead
STALLS = (20, 90, 160)
OVERHEAD = 64 * 1024  # handshake, records, heartbeats and acknowledgements of one connection
TLS_HOLDS = 2 * limits.CHUNK_BYTES  # asyncio's, of what we have handed over
IN_FLIGHT = MIB  # in the kernels of both ends and the proxy: the link itself, as far as a sender can know


class HeavyNet(TinyNet):
    """As heavy as ResNet18."""

    def __init__(self) -> None:
        super().__init__()
        self.ballast = torch.nn.Parameter(torch.zeros(11_190_000))


class OverTcp(Federation):
    """A federation whose workers come over TCP and TLS, through a rough proxy."""

    def __init__(self, folder: Path, fate_of: Callable[[int], Fate], **options: Any) -> None:
        super().__init__(folder, **options)
        authority = authority_in(self.certs)
        enrolled(self.certs, "client1", authority)
        self._listener = Listener()
        self.proxy = RoughProxy(self._listener.bind("127.0.0.1", 0)[1], fate_of)
        self._listener.serve_with(coordinator_context(self.certs), self.coordinator.reception.serve)
        self.uploads: list[tuple[int, int]] = []  # (which connection, the offset it went on from)

    async def serve(self) -> None:
        async with self.proxy.running():
            self.is_open.set()
            await self._listener.serve()

    async def connect(self, name: str, *, begins: State = State.WAITING) -> Link:
        await self.is_open.wait()
        context = worker_context(credentials_in(self.certs, WorkerName(name)))
        link = await connect("127.0.0.1", self.proxy.port, context, begins=begins)
        number, start = len(self.proxy.passed) - 1, link.start_transfer

        def noted(transfer: int, data: memoryview, *, offset: int, **sizes: int) -> None:
            self.uploads.append((number, offset))
            start(transfer, data, offset=offset, **sizes)

        link.start_transfer = noted  # type: ignore[method-assign]  # to see where each one goes on
        return link


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_service, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(limits, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(limits, "DEAD_AFTER_S", 1.0)


@pytest.mark.usefixtures("impatient")
async def test_200_breaks_of_one_upload_cost_a_chunk_each_and_no_bit(tmp_path: Path) -> None:
    chances = random.Random(5)
    after = [chances.randrange(64 * 1024, int(1.1 * limits.CHUNK_BYTES)) for _ in range(PLANNED)]

    def fate_of(number: int) -> Fate:
        if number >= PLANNED:
            return Fate()
        return Fate(stalls_after=after[number]) if number in STALLS else Fate(breaks_after=after[number])

    sent: list[torch.Tensor] = []

    def noise(update: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        values = torch.randn(manifest.parameter_count, generator=torch.Generator().manual_seed(1)) * 1e-3
        update[: manifest.parameter_bytes].view(torch.float32).copy_(values)
        sent.append(update)
        return update

    run_settings = settings(workers=1, quorum=1, rounds=1)
    federation = OverTcp(tmp_path, fate_of, run_settings=run_settings, network=HeavyNet, grace_s=60.0)
    federation.coordinator._judge = lambda flat: {
        part: {"macro_f1": 0.5, "loss": 1.0, "accuracy": 0.5} for part in ("validation", "test")
    }
    await federation.run(federation.worker(1, tamper=noise))
    proxy = federation.proxy
    assert proxy.stalled > 0
    assert proxy.broken + proxy.stalled >= BREAKS
    assert len(sent) == 1, "trained once"
    entry = json.loads((tmp_path / "run" / "history.json").read_text())["rounds"][0]["updates"][0]
    assert entry["sha256"] == hashlib.sha256(bytes_of(sent[0])).hexdigest()
    for (number, offset), (_, went_on) in itertools.pairwise(federation.uploads):
        assert offset <= went_on, "nothing that had arrived was asked for again"
        assert offset + proxy.passed[number] - went_on <= limits.CHUNK_BYTES + OVERHEAD


async def test_a_message_overtakes_an_upload_over_a_slow_link(tmp_path: Path) -> None:
    """At 4 MB/s, to be done soon; the bytes in front of the message are the same at any rate."""
    authority = authority_in(tmp_path)
    context = worker_context(enrolled(tmp_path, "client1", authority))
    listener = Listener()
    links: asyncio.Queue[Link] = asyncio.Queue()

    async def serve(link: Link, first: Any) -> None:
        link.send(Welcome(run="r", worker="client1", settings={}, manifest="ab" * 32, heartbeat_s=10.0))
        assert isinstance(await link.receive(), Ready)
        await links.put(link)
        await asyncio.Event().wait()

    proxy = RoughProxy(listener.bind("127.0.0.1", 0)[1], lambda number: Fate(bytes_per_s=4e6, delay_s=0.001))
    listener.serve_with(coordinator_context(tmp_path), serve)
    serving = asyncio.create_task(listener.serve())
    async with proxy.running():
        worker = await connect("127.0.0.1", proxy.port, context)
        worker.send(Hello(software="test"))
        await worker.receive()
        worker.send(Ready(manifest="ab" * 32, samples=1, device="cpu"))
        coordinator = await links.get()
        data = memoryview(bytes(45 * MIB))
        memory = memoryview(bytearray(len(data)))
        intake = Intake(MemoryStore(memory), nbytes=len(data), sha256="ab" * 32)
        coordinator.expect(1, nbytes=len(data), offset=0, destination=intake)
        taking = asyncio.create_task(intake.run(coordinator, 1))
        worker.start_transfer(1, data, offset=0)
        for wait_s in (1.0, 0.3, 0.3):
            await asyncio.sleep(wait_s)
            before = proxy.passed[0]
            worker.send(Progress(round=1, fraction=0.5, remaining_s=1.0, images_per_s=1.0, loss=1.0))
            assert isinstance(await coordinator.receive(), Progress)
            assert 0 < intake.offset < len(data), "the upload is under way"
            assert proxy.passed[0] - before <= TLS_HOLDS + IN_FLIGHT
        taking.cancel()
        serving.cancel()
        await asyncio.gather(taking, serving, return_exceptions=True)
