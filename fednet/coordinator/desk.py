"""What all worker sessions of a run share: the rounds' state, the model on offer, and the updates coming in."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import torch

from fednet.compression.forms import PLAIN, form_named
from fednet.config import RunId, RunSettings, WorkerName
from fednet.coordinator.round import Event, Rounds, UpdateStored
from fednet.errors import RemoteProtocolError, StorageError
from fednet.protocol.chunks import window_for
from fednet.protocol.messages import UpdateOffered
from fednet.reporting.reporter import WorkerView
from fednet.storage.spool import SpoolFile, clear_spool, read_spooled, require_room
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


@dataclass
class IncomingUpdate:
    """An update on its way: its file, and how far it has come over however many connections."""

    offered: UpdateOffered
    file: SpoolFile
    intake: Intake
    durable: asyncio.Task[None] | None = None  # at work once all of it has come; outlives the connection


class Desk:
    """The shared table of one run. Lives on the event loop; decoding, files and the database are used in threads."""

    def __init__(
        self,
        *,
        run: RunId,
        settings: RunSettings,
        manifest: Manifest,
        rounds: Rounds,
        store: RunStore,
        computing: Executor,
    ) -> None:
        """`computing` is the one thread for work on models: a decoded update is whole in memory."""
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
        self._computing = computing

    def now(self) -> float:
        """Return the run's one clock, in seconds."""
        return asyncio.get_running_loop().time()

    def require_room(self) -> None:
        """Raise `DiskFull` unless the disk holds a round's updates (as they travel, and decoded) and its checkpoint."""
        copies = self.settings.workers * (1 if self.update_form == PLAIN else 2) + 2
        number = self.rounds.round_number
        require_room(self._store.folder, copies * self.manifest.total_bytes, purpose=f"round {number}")

    def begin_round(self, offer: ModelOffer) -> None:
        """Offer a new model and take updates for it."""
        self.end_round()
        self.offer = offer

    def end_round(self) -> None:
        """Forget the round's updates; its spool is removed."""
        for worker in list(self._incoming):
            self._forget(worker)
        self.delivered.clear()
        if self.offer is not None:
            clear_spool(self._spool_folder(self.offer.round))
            self.offer = None

    def incoming(self, worker: WorkerName, offered: UpdateOffered) -> IncomingUpdate:
        """Return the place of an offered update; the same update goes on where an earlier connection stopped.

        Raises `DiskFull` when there is no room for it.
        """
        known = self._incoming.get(worker)
        if known is not None and known.offered.sha256 == offered.sha256:
            return known
        self._forget(worker)
        path = self._spool_folder(offered.round) / f"{worker}.update"
        path.unlink(missing_ok=True)
        file = SpoolFile(path, offered.nbytes)
        incoming = IncomingUpdate(offered, file, Intake(file, nbytes=offered.nbytes, sha256=offered.sha256))
        self._incoming[worker] = incoming
        return incoming

    async def keep(self, worker: WorkerName, incoming: IncomingUpdate) -> None:
        """Make a verified update durable and remember it; it counts from here on, whatever becomes of the connection.

        Raises `RemoteProtocolError` when it does not decode to this run's layout, `StorageError`.
        """
        if incoming.durable is None:
            incoming.durable = asyncio.ensure_future(self._make_durable(worker, incoming))
            incoming.durable.add_done_callback(lambda job: job.cancelled() or job.exception())
        await asyncio.shield(incoming.durable)

    def storage_failed(self, worker: WorkerName, incoming: IncomingUpdate | None, exc: StorageError) -> None:
        """End the run, unless what could not be stored is not wanted any more: its round has closed."""
        if incoming is None or self._is_wanted(worker, incoming):
            self.events.put_nowait(exc)

    async def _make_durable(self, worker: WorkerName, incoming: IncomingUpdate) -> None:
        offered = incoming.offered
        try:
            path = await self._on_disk(incoming)
            if self._is_wanted(worker, incoming):
                await asyncio.to_thread(
                    self._store.update_stored, offered.round, worker, sha256=offered.sha256, samples=offered.samples
                )
        except StorageError as exc:
            self.storage_failed(worker, incoming, exc)
            raise
        except RemoteProtocolError:
            if self._is_wanted(worker, incoming):
                self._forget(worker)
            raise
        if not self._is_wanted(worker, incoming):
            path.unlink(missing_ok=True)  # the round closed while the disk was busy
            return
        if path != incoming.file.path:
            incoming.file.path.unlink(missing_ok=True)
        self._incoming.pop(worker).file.close()
        self.delivered[worker] = DeliveredUpdate(
            path=path,
            sha256=offered.sha256,
            samples=offered.samples,
            train_s=offered.train_s,
            loss=offered.loss,
        )
        self.events.put_nowait(UpdateStored(worker, offered.round))

    async def _on_disk(self, incoming: IncomingUpdate) -> Path:
        if self.update_form == PLAIN:
            await asyncio.to_thread(incoming.file.sync)
            return incoming.file.path
        return await asyncio.get_running_loop().run_in_executor(self._computing, self._decoded, incoming.file)

    def _decoded(self, received: SpoolFile) -> Path:
        data = torch.empty(received.nbytes, dtype=torch.uint8)
        read_spooled(received.path, data, offset=0)
        flat = self.update_form.decoded(data, self.manifest)
        file = SpoolFile(received.path.with_suffix(".decoded"), flat.numel())
        try:
            file.write(0, bytes_of(flat))
            file.sync()
        finally:
            file.close()
        return file.path

    def _is_wanted(self, worker: WorkerName, incoming: IncomingUpdate) -> bool:
        return self._incoming.get(worker) is incoming

    def _forget(self, worker: WorkerName) -> None:
        if worker in self._incoming:
            self._incoming.pop(worker).file.close()

    def _spool_folder(self, round_number: int) -> Path:
        return self._store.folder / "spool" / f"round-{round_number:04d}"
