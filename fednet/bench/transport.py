"""Goodput of our transfers over mutual TLS on loopback, beside bare TLS streams, in one run of two processes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from fednet.bench.bare_tls import BarePeers, bare_client
from fednet.bench.identities import issue
from fednet.bench.machine import machine
from fednet.bench.memory import Watch
from fednet.bench.pair import AT_A_TIME, beside, started
from fednet.bench.puppet import Puppet
from fednet.config import WorkerName
from fednet.protocol.messages import (
    ChunksReceived,
    Message,
    ModelWanted,
    RoundStarted,
    UpdateAccepted,
    UpdateOffered,
    UpdateWanted,
    Welcome,
)
from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import Credentials
from fednet.storage.spool import ChunkMemory
from fednet.transport.intake import Intake
from fednet.transport.link import Link
from fednet.transport.tcp import Listener

_DIGEST = "0" * 64  # of no layout: nothing here is a model
_MEANING = {
    "down": "bytes/s, median: coordinator to workers, all at once, each hashed and verified by its receiver",
    "up": "bytes/s, median: workers to coordinator, all at once, each hashed and verified there",
    "bare": "the same bytes through asyncio TLS streams, hashed with SHA-256 by the receiver, no framing",
    "unhashed": "as bare, without the hash",
    "ratio": "goodput of ours / goodput of bare",
    "peak_bytes": "resident memory of each process beyond its start: all workers are one process",
}


@dataclass(frozen=True, kw_only=True)
class TransportBench:
    """What is measured: `nbytes` to and from each of so many workers, `repeats` times after a warm-up."""

    workers: tuple[int, ...]
    nbytes: int
    repeats: int


def bench_transport(settings: TransportBench, notice: Callable[[str], None]) -> dict[str, Any]:
    """Return one JSON document with a run for each count of workers."""
    runs = []
    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as name:
        credentials = issue(Path(name), [WorkerName("client1")])[0]
        for workers in settings.workers:
            notice(f"{workers} workers, {settings.nbytes / 1e6:.1f} MB each way, {settings.repeats + 1} times")
            runs.append(_run(Path(name), credentials, workers, settings))
    return {
        "bench": "transport",
        "machine": machine(),
        "settings": asdict(settings),
        "runs": runs,
        "meaning": _MEANING,
    }


def _run(certs: Path, credentials: Credentials, workers: int, settings: TransportBench) -> dict[str, Any]:
    process, ours = started(_be_workers, credentials, workers, settings)
    payload = os.urandom(settings.nbytes)
    with Watch() as memory:
        seconds = asyncio.run(beside(process, _be_coordinator(certs, payload, workers, settings, ours)))
    peaks = {"coordinator": memory.peak_bytes, "workers": ours.recv()}
    process.join()
    goodput = {
        name: {way: workers * settings.nbytes / statistics.median(times[1:]) for way, times in ways.items()}
        for name, ways in seconds.items()
    }
    return {
        "workers": workers,
        "seconds": seconds,
        "goodput": goodput,
        "ratio": {way: goodput["ours"][way] / goodput["bare"][way] for way in ("down", "up")},
        "peak_bytes": peaks,
    }


# The coordinator's end


async def _be_coordinator(
    certs: Path, payload: bytes, workers: int, settings: TransportBench, pipe: Pipe
) -> dict[str, dict[str, list[float]]]:
    bare = BarePeers(workers, settings.nbytes)
    context = coordinator_context(certs)
    greeted: asyncio.Queue[Link] = asyncio.Queue()

    async def on_peer(link: Link, first: Message) -> None:
        link.send(Welcome(run="bench", worker="client1", settings={}, manifest=_DIGEST, heartbeat_s=10.0))
        await link.receive()
        await greeted.put(link)
        await asyncio.Event().wait()  # until the listener is cancelled

    listener = Listener()
    port = listener.bind("127.0.0.1", 0)[1]
    listener.serve_with(context, on_peer)
    serving = asyncio.create_task(listener.serve())
    pipe.send((port, await bare.listen(context)))
    try:
        links = [await greeted.get() for _ in range(workers)]
        await bare.connected()
        return await _measure(_Ours(links, payload), bare, settings.repeats + 1)
    finally:
        bare.close()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _measure(ours: _Ours, bare: BarePeers, repeats: int) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {name: {"down": [], "up": []} for name in ("ours", "bare", "unhashed")}
    for _ in range(repeats):
        found["ours"]["down"].append(await _timed(ours.send()))
        await ours.offered()
        found["ours"]["up"].append(await _timed(ours.take()))
        for name, hashed in (("bare", True), ("unhashed", False)):
            found[name]["down"].append(await _timed(bare.send()))
            found[name]["up"].append(await _timed(bare.take(hashed=hashed)))
    return found


async def _timed(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


class _Ours:
    """Moves the payload to every worker and back, with the messages and the intake of a real round."""

    def __init__(self, links: Sequence[Link], payload: bytes) -> None:
        self._links = links
        self._payload = memoryview(payload)
        self._sha256 = hashlib.sha256(payload).hexdigest()
        self._round = 0
        self._sha256 = ""  # of the update, the same of all

    async def send(self) -> None:
        """Send to every worker at once, until each has all of it, hashed."""
        self._round += 1
        await asyncio.gather(*(self._send_to(link) for link in self._links))

    async def offered(self) -> None:
        """Wait until every worker offers its update."""
        for link in self._links:
            offered = await link.receive()
            assert isinstance(offered, UpdateOffered)
            self._sha256 = offered.sha256

    async def take(self) -> None:
        """Take from every worker at once, hash and verify."""
        await asyncio.gather(*(self._take_from(link) for link in self._links))
        for link in self._links:
            link.send(UpdateAccepted(round=self._round, sha256=self._sha256))

    async def _send_to(self, link: Link) -> None:
        nbytes, number = len(self._payload), self._round
        link.send(
            RoundStarted(
                round=number,
                rounds=number,
                transfer=number,
                nbytes=nbytes,
                sha256=self._sha256,
                training={},
                seed=0,
                remaining_s=0.0,
            )
        )
        assert isinstance(await link.receive(), ModelWanted)
        link.start_transfer(number, self._payload, offset=0)
        assert isinstance(await link.receive(), ChunksReceived)

    async def _take_from(self, link: Link) -> None:
        number = self._round
        intake = Intake(_Nowhere(), nbytes=len(self._payload), sha256=self._sha256)
        link.expect(number, nbytes=intake.nbytes, offset=0, destination=intake)
        link.send(UpdateWanted(round=number, transfer=number, offset=0))
        await intake.run(link, number)


class _Nowhere:
    """Takes chunks as a spool file does, and keeps nothing: the disk is `bench round`'s."""

    def __init__(self) -> None:
        self._chunks = ChunkMemory()

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        """Return memory for one chunk."""
        return self._chunks.take(nbytes)

    def keep(self, offset: int, data: memoryview) -> None:
        """Drop the chunk."""
        self._chunks.give_back(data)


# The workers' end


def _be_workers(credentials: Credentials, workers: int, settings: TransportBench, pipe: Pipe) -> None:
    ours, bare = pipe.recv()
    with Watch() as memory:
        asyncio.run(_all_workers(credentials, workers, settings, ours, bare))
    pipe.send(memory.peak_bytes)


async def _all_workers(credentials: Credentials, workers: int, settings: TransportBench, ours: int, bare: int) -> None:
    context, repeats, gate = worker_context(credentials), settings.repeats + 1, asyncio.Semaphore(AT_A_TIME)
    async with asyncio.TaskGroup() as peers:
        for _ in range(workers):
            peers.create_task(_worker(ours, context, gate, settings.nbytes, repeats))
            peers.create_task(bare_client(bare, context, settings.nbytes, repeats))


async def _worker(port: int, context: ssl.SSLContext, gate: asyncio.Semaphore, nbytes: int, repeats: int) -> None:
    async with gate:
        puppet = await Puppet.joined(port, context)
    memory = memoryview(bytearray(nbytes))
    for _ in range(repeats):
        started = await puppet.round_started()
        assert started is not None
        await puppet.take_model(started, memory)
        await puppet.deliver(started, memory, sha256=started.sha256)
        while not isinstance(await puppet.link.receive(), UpdateAccepted):
            pass  # ChunksReceived: all of it arrived
