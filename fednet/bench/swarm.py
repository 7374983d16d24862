"""A whole run of many workers on this machine: one process serves, one other is all the workers, nobody trains."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import torch

from fednet import __version__
from fednet.bench.identities import issue
from fednet.bench.machine import machine
from fednet.bench.memory import Watch, anonymous_bytes
from fednet.bench.pair import AT_A_TIME, beside, started
from fednet.bench.puppet import Puppet
from fednet.config import RunId, RunSettings, WorkerName, automatic_byzantine
from fednet.coordinator.record import RunRecord
from fednet.coordinator.service import Coordinator
from fednet.errors import BadInput
from fednet.reporting.reporter import NullReporter
from fednet.security.contexts import coordinator_context, worker_context
from fednet.security.enrolment import Credentials
from fednet.security.signing import RecordSigner
from fednet.storage.atomic import write_bytes
from fednet.storage.store import RunStore
from fednet.tensors import bytes_of, empty_flat, manifest_of
from fednet.transport.capacity import allow_workers
from fednet.transport.tcp import Listener

_DEADLINE_S = 3600.0
_MEANING = {
    "transfer": "s of each round: the model to all workers, all updates back, verified and synced to disk",
    "aggregate": "s of each round: Multi-Krum over the spooled updates (distances grow with the square of the workers)",
    "connect": "s until all workers were connected and greeted",
    "peak_bytes": "the coordinator's anonymous memory beyond its start, at its highest in each round",
    "growth_bytes": "peak of the last round beyond that of the second",
}


@dataclass(frozen=True, kw_only=True)
class SwarmBench:
    """How many workers (a run for each count), how large a model, how many rounds."""

    workers: tuple[int, ...]
    model_bytes: int
    rounds: int


def bench_swarm(settings: SwarmBench, notice: Callable[[str], None]) -> dict[str, Any]:
    """Return one JSON document with a run for each count. Raises `BadInput` where the system allows too few files."""
    if not allow_workers(max(settings.workers)):
        raise BadInput(
            f"{max(settings.workers)} workers",
            found="a lower limit of open files",
            todo="raise `ulimit -n`, or take fewer --workers",
        )
    runs = []
    for workers in settings.workers:
        notice(f"{workers} workers, {settings.model_bytes / 1e6:.1f} MB each way, {settings.rounds} rounds")
        runs.append(_run(workers, settings))
    return {"bench": "swarm", "machine": machine(), "settings": asdict(settings), "runs": runs, "meaning": _MEANING}


def _run(workers: int, settings: SwarmBench) -> dict[str, Any]:
    names = [WorkerName(f"client{number}") for number in range(1, workers + 1)]
    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as folder:
        credentials = issue(Path(folder) / "certs", names)
        process, ours = started(_be_workers, credentials, settings.model_bytes)
        with Watch(anonymous_bytes) as memory:
            rounds = _Rounds(memory)
            connected = asyncio.run(beside(process, _serve(Path(folder), names, settings, rounds, ours)))
        process.join()
    return {
        "workers": workers,
        "connect": connected,
        "transfer": [each["transfer"] for each in rounds.seconds],
        "aggregate": [each["aggregate"] for each in rounds.seconds],
        "round": [each["round"] for each in rounds.seconds],
        "peak_bytes": rounds.peaks,
        "growth_bytes": rounds.peaks[-1] - rounds.peaks[min(1, len(rounds.peaks) - 1)],
    }


class _Rounds(NullReporter):
    """Notes each round's seconds, and the memory that it took at most."""

    def __init__(self, memory: Watch) -> None:
        self._memory = memory
        self.seconds: list[dict[str, float]] = []
        self.peaks: list[int] = []

    def round_committed(self, document: dict[str, Any]) -> None:
        """Note a round."""
        self.seconds.append(document["seconds"])
        self.peaks.append(self._memory.peak_bytes)
        self._memory.peak_bytes = 0


async def _serve(folder: Path, names: Sequence[WorkerName], settings: SwarmBench, rounds: _Rounds, pipe: Pipe) -> float:
    manifest = manifest_of({"weight": torch.empty(settings.model_bytes // 4)}, ["weight"])
    run_settings = RunSettings(
        model="bench",
        image_size=32,
        classes=("one", "other"),
        rounds=settings.rounds,
        workers=len(names),
        quorum=len(names),
        byzantine=automatic_byzantine(len(names)),
        deadline_s=_DEADLINE_S,
    )
    run, store = RunId("swarm"), RunStore(folder / "run")
    signer, model = RecordSigner(folder / "certs"), empty_flat(manifest)
    record = RunRecord(
        run=run, settings=run_settings, store=store, save=_save, signer=signer, software={"fednet": __version__}
    )
    record.begin(model, manifest=manifest.digest)
    coordinator = Coordinator(
        run=run,
        settings=run_settings,
        manifest=manifest,
        model=model,
        store=store,
        record=record,
        judge=lambda flat: {},
        reporter=rounds,
        device=torch.device("cpu"),
        grace_s=60.0,
    )
    listener = Listener()
    port = listener.bind("127.0.0.1", 0)[1]
    listener.serve_with(coordinator_context(folder / "certs"), coordinator.reception.serve)
    pipe.send(port)
    began = time.perf_counter()
    try:
        await coordinator.run(listener)
    finally:
        listener.close()
        store.close()
    return time.perf_counter() - began - sum(each["round"] for each in rounds.seconds)


def _save(path: Path, flat: torch.Tensor, facts: dict[str, Any]) -> None:
    write_bytes(path, bytes_of(flat))


# The workers


def _be_workers(credentials: Sequence[Credentials], nbytes: int, pipe: Pipe) -> None:
    allow_workers(len(credentials))
    asyncio.run(_all_workers(credentials, nbytes, pipe.recv()))


async def _all_workers(credentials: Sequence[Credentials], nbytes: int, port: int) -> None:
    scratch = memoryview(bytearray(nbytes))  # all receive the same model
    noise = torch.randn(nbytes // 4 + len(credentials)).mul_(1e-3).numpy().data.cast("B")
    gate = asyncio.Semaphore(AT_A_TIME)
    async with asyncio.TaskGroup() as workers:
        for number, each in enumerate(credentials):
            update = noise[4 * number : 4 * number + nbytes // 4 * 4]  # each its own, without memory of its own
            workers.create_task(_worker(each, port, gate, scratch[: len(update)], update))


async def _worker(
    credentials: Credentials, port: int, gate: asyncio.Semaphore, scratch: memoryview, update: memoryview
) -> None:
    digest = await asyncio.to_thread(lambda: hashlib.sha256(update).hexdigest())
    async with gate:
        puppet = await Puppet.joined(port, worker_context(credentials))
    puppet.link.start_heartbeats()
    while (started := await puppet.round_started()) is not None:
        await puppet.take_model(started, scratch)
        await puppet.deliver(started, update, sha256=digest)
    puppet.link.abort()
