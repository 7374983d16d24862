"""What all worker sessions of a run share: the rounds' state, the model on offer, and the updates coming in."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from fednet.compression.forms import PLAIN, form_named
from fednet.config import RunId, RunSettings, WorkerName
from fednet.coordinator.round import Event, Rounds
from fednet.protocol.chunks import window_for
from fednet.protocol.messages import UpdateOffered
from fednet.reporting.reporter import WorkerView
from fednet.storage.spool import SpoolFile, clear_spool, read_spooled
from fednet.storage.store import RunStore
from fednet.tensors import Manifest, bytes_of
from fednet.transport.intake import Intake


@dataclass(frozen=True)
class ModelOffer:
    """The global model of one round, encoded once however many workers take it."""

    round: int
    data: memoryview  # as it travels
    sha256: str
    began_s: float  # of the loop's clock


@dataclass(frozen=True, kw_only=True)
class DeliveredUpdate:
    """What is known of a durable update."""

    path: Path
    sha256: str
    samples: int
    train_s: float
    loss: float


@dataclass(frozen=True)
class IncomingUpdate:
    """An update on its way: its file, and how far it has come over however many connections."""

    sha256: str
    file: SpoolFile
    intake: Intake


class Desk:
    """The shared table of one run. Lives on the event loop; only `SpoolFile` writes happen in threads."""

    def __init__(
        self, *, run: RunId, settings: RunSettings, manifest: Manifest, rounds: Rounds, store: RunStore
    ) -> None:
        self.run = run
        self.settings = settings
        self.manifest = manifest
        self.update_form = form_named(settings.compress, option="--compress")
        self.model_form = form_named(settings.compress_model, option="--compress-model", may_round=False)
        self.window = window_for(settings.workers)  # bytes, of each worker's transfers
        self.rounds = rounds
        self.offer: ModelOffer | None = None
        self.views: dict[WorkerName, WorkerView] = {}
        self.delivered: dict[WorkerName, DeliveredUpdate] = {}
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._store = store
        self._incoming: dict[WorkerName, IncomingUpdate] = {}
        self._decoding = threading.Lock()

    def now(self) -> float:
        """Return the run's one clock, in seconds."""
        return asyncio.get_running_loop().time()

    def begin_round(self, offer: ModelOffer) -> None:
        """Offer a new model and take updates for it."""
        self.end_round()
        self.offer = offer

    def end_round(self) -> None:
        """Forget the round's updates; its spool is removed."""
        for incoming in self._incoming.values():
            incoming.file.close()
        self._incoming.clear()
        self.delivered.clear()
        if self.offer is not None:
            clear_spool(self._spool_folder(self.offer.round))
            self.offer = None

    def incoming(self, worker: WorkerName, offered: UpdateOffered) -> IncomingUpdate:
        """Return the place of an offered update; the same update goes on where an earlier connection stopped.

        Raises `DiskFull` when there is no room for it.
        """
        known = self._incoming.get(worker)
        if known is not None and known.sha256 == offered.sha256:
            return known
        if known is not None:
            known.file.close()
        path = self._spool_folder(offered.round) / f"{worker}.update"
        path.unlink(missing_ok=True)
        file = SpoolFile(path, offered.nbytes)
        incoming = IncomingUpdate(offered.sha256, file, Intake(file, nbytes=offered.nbytes, sha256=offered.sha256))
        self._incoming[worker] = incoming
        return incoming

    async def keep(self, worker: WorkerName, offered: UpdateOffered, incoming: IncomingUpdate) -> None:
        """Make a verified update durable and remember it; it counts from here on.

        Raises `RemoteProtocolError` when it does not decode to this run's layout.
        """
        path = await asyncio.to_thread(self._make_durable, worker, offered, incoming)
        if self._incoming.get(worker) is not incoming:
            return  # the round closed while the disk was busy
        self._incoming.pop(worker).file.close()
        self.delivered[worker] = DeliveredUpdate(
            path=path,
            sha256=offered.sha256,
            samples=offered.samples,
            train_s=offered.train_s,
            loss=offered.loss,
        )

    def _make_durable(self, worker: WorkerName, offered: UpdateOffered, incoming: IncomingUpdate) -> Path:
        file = incoming.file if self.update_form == PLAIN else self._decoded(incoming.file)
        file.sync()
        if file is not incoming.file:
            file.close()
            incoming.file.path.unlink(missing_ok=True)
        self._store.update_stored(offered.round, worker, sha256=offered.sha256, samples=offered.samples)
        return file.path

    def _decoded(self, received: SpoolFile) -> SpoolFile:
        with self._decoding:  # one at a time: a decoded update is whole in memory, whatever the number of workers
            data = torch.empty(received.nbytes, dtype=torch.uint8)
            read_spooled(received.path, data, offset=0)
            flat = self.update_form.decoded(data, self.manifest)
            file = SpoolFile(received.path.with_suffix(".decoded"), flat.numel())
            file.write(0, bytes_of(flat))
            return file

    def _spool_folder(self, round_number: int) -> Path:
        return self._store.folder / "spool" / f"round-{round_number:04d}"
