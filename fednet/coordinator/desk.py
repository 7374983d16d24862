"""What all worker sessions of a run share: the rounds' state, the model on offer, and the updates coming in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import torch

from fednet.compression.forms import PLAIN, Form, form_named
from fednet.config import RunId, RunSettings, WorkerName
from fednet.coordinator.round import Event, Rounds, UpdateStored
from fednet.errors import RemoteProtocolError, StorageError, SyncFailed
from fednet.protocol import limits
from fednet.protocol.chunks import window_for
from fednet.protocol.messages import Ready, UpdateOffered
from fednet.reporting.reporter import WorkerView
from fednet.storage import disk
from fednet.storage.spool import (
    DECODED,
    SpoolFile,
    digest_of_file,
    keep_only,
    read_spooled,
    require_room,
    spool_folder,
    spool_path,
)
from fednet.storage.store import RoundUnderWay, RunStore, StoredUpdate
from fednet.tensors import Manifest, bytes_of
from fednet.transport.intake import Intake

log = logging.getLogger("fednet.coordinator")


@dataclass(frozen=True)
class ModelOffer:
    """The global model of one round, encoded once however many workers take it."""

    round: int
    data: memoryview  # as it travels
    sha256: str
    began_s: float  # of the loop's clock


@dataclass(frozen=True, kw_only=True)
class DeliveredUpdate(StoredUpdate):
    """A durable update, and where its flat buffer lies."""

    path: Path


@dataclass
class IncomingUpdate:
    """An update on its way: its file, and how far it has come over however many connections."""

    offered: UpdateOffered
    fingerprint: str
    file: SpoolFile
    intake: Intake
    durable: asyncio.Task[None] | None = None  # at work once all of it has come; outlives the connection


SENDS_UPDATE = "sending its update"
"""A worker's activity while its update arrives."""


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
        headers_after: Callable[[int, int], list[bytes]],
        keeps_updates: bool = False,
    ) -> None:
        """`computing` is the one thread for work on models: a decoded update is whole in memory.

        `headers_after` (round, how many at most): of the run's chain. With `keeps_updates` a committed round's updates
        stay on disk, as they travelled.
        """
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
        self.run_declined_by: dict[WorkerName, str] = {}  # who takes no part in the run, and why
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._store = store
        self._incoming: dict[WorkerName, IncomingUpdate] = {}
        self._computing = computing
        self._keeps_updates = keeps_updates
        self._headers_after = headers_after

    def now(self) -> float:
        """Return the run's one clock, in seconds."""
        return asyncio.get_running_loop().time()

    def require_room(self, *, updates: int) -> None:
        """Raise `DiskFull` unless the disk holds so many updates (as they travel, and decoded) and a checkpoint."""
        copies = updates * (1 if self.update_form == PLAIN else 2) + 2
        number = self.rounds.round_number
        require_room(self._store.folder, copies * self.manifest.total_bytes, purpose=f"round {number}")

    def recovered(self, under_way: RoundUnderWay) -> dict[WorkerName, DeliveredUpdate]:
        """Return an unfinished round's updates that are on disk as their rows say; the others' rows are dropped.

        Raises `StorageError`. Works on files and models: not on the event loop.
        """
        found = {}
        for update in under_way.updates:
            path = spool_path(self._store.folder, under_way.round, update.worker)
            try:
                flat = self._flat(path, update)
            except (StorageError, RemoteProtocolError) as exc:
                log.warning(
                    "round %d: %s's update is recorded, but %s: asking again", under_way.round, update.worker, exc
                )
                self._store.update_lost(under_way.round, update.worker)
                continue
            found[update.worker] = DeliveredUpdate(**vars(update), path=flat)
        return found

    def _flat(self, path: Path, update: StoredUpdate) -> Path:
        if digest_of_file(path) != update.sha256:
            raise StorageError(f"{path} is not what was received")
        return path if self.update_form == PLAIN else self._decoded(path, update.nbytes)

    def begin_round(self, offer: ModelOffer, delivered: Mapping[WorkerName, DeliveredUpdate]) -> None:
        """Offer a model and take updates for it; `delivered` are there already."""
        self.leave_round()
        self.offer = offer
        self.delivered.update(delivered)

    def leave_round(self) -> None:
        """Take no more updates; those that are durable stay on disk."""
        for worker in list(self._incoming):
            self._forget(worker)
        self.delivered.clear()
        self.offer = None

    def end_round(self) -> None:
        """Leave a committed round: what is on disk of its updates has done its part."""
        assert self.offer is not None, "a round that ends has been offered"
        folder = spool_folder(self._store.folder, self.offer.round)
        kept = set(self.delivered) if self._keeps_updates else set()
        self.leave_round()
        if self._keeps_updates:
            keep_only(folder, kept)
        else:
            disk.remove_folder(folder)

    def incoming(self, worker: WorkerName, offered: UpdateOffered, *, fingerprint: str) -> IncomingUpdate:
        """Return the place of an offered update; the same update goes on where an earlier connection stopped.

        `fingerprint` is its sender's. Raises `DiskFull` when there is no room for it.
        """
        known = self._incoming.get(worker)
        if known is not None and known.offered.sha256 == offered.sha256:
            known.fingerprint = fingerprint  # who vouches for all of it is who ends it
            return known
        self._forget(worker)
        path = spool_path(self._store.folder, offered.round, worker)
        disk.unlink(path)
        file = SpoolFile(path, offered.nbytes)
        incoming = IncomingUpdate(
            offered, fingerprint, file, Intake(file, nbytes=offered.nbytes, sha256=offered.sha256)
        )
        self._incoming[worker] = incoming
        return incoming

    async def drop_update(self, worker: WorkerName, *, of: Callable[[str], bool]) -> None:
        """Take back an update of the running round if it came with one of these certificates (fingerprints).

        However far it has come: on its way, being made durable, or durable. Its connection must have ended.
        """
        incoming = self._incoming.get(worker)
        if incoming is not None and of(incoming.fingerprint):
            del self._incoming[worker]  # so it is not wanted any more, whatever it is doing
            if incoming.durable is not None:
                await asyncio.wait({incoming.durable})
            incoming.file.close()
        elif worker in self.delivered and of(self.delivered[worker].fingerprint):
            del self.delivered[worker]
        else:
            return
        await asyncio.to_thread(self._store.update_lost, self.rounds.round_number, worker)

    def show_uploads(self) -> None:
        """Renew how far each update on its way has come."""
        for worker, incoming in self._incoming.items():  # what has come of one whose link broke is kept too
            if (view := self.views[worker]).activity == SENDS_UPDATE:
                view.fraction = incoming.intake.offset / max(1, incoming.intake.nbytes)

    def headers_after(self, round_number: int) -> list[bytes]:
        """Return the next headers of the run's chain, as many as one message takes."""
        return self._headers_after(round_number, limits.MAX_RECORDS)

    async def worker_ready(self, worker: WorkerName, ready: Ready, *, fingerprint: str) -> None:
        """Remember a worker that is about to take part."""
        await asyncio.to_thread(
            self._store.worker_seen, worker, fingerprint=fingerprint, samples=ready.samples, device=ready.device
        )
        self.views[worker] = WorkerView(name=worker, samples=ready.samples, device=ready.device)
        self.run_declined_by.pop(worker, None)

    async def run_declined(self, worker: WorkerName, reason: str) -> None:
        """Remember, durably, that a worker takes no part in the run; once, where it says so again and again."""
        if self.run_declined_by.get(worker) != reason:
            self.run_declined_by[worker] = reason
            log.warning("%s declines the run: %s", worker, reason)
            await asyncio.to_thread(self._store.run_declined, worker, reason)

    async def keep(self, worker: WorkerName, incoming: IncomingUpdate) -> None:
        """Make a verified update durable and remember it; it counts from here on, whatever becomes of the connection.

        Raises `RemoteProtocolError` when it does not decode to this run's layout, `StorageError`.
        """
        if incoming.durable is None:
            incoming.durable = asyncio.ensure_future(self._make_durable(worker, incoming))
            incoming.durable.add_done_callback(lambda job: job.cancelled() or job.exception())
        await asyncio.shield(incoming.durable)

    def storage_failed(self, worker: WorkerName, incoming: IncomingUpdate | None, exc: StorageError) -> None:
        """End the run, unless what could not be stored is not wanted any more: its round has closed.

        A disk that loses what it took ends it always.
        """
        if incoming is None or isinstance(exc, SyncFailed) or self._is_wanted(worker, incoming):
            self.events.put_nowait(exc)

    async def _make_durable(self, worker: WorkerName, incoming: IncomingUpdate) -> None:
        offered, offer = incoming.offered, self.offer
        try:
            path = await self._on_disk(incoming)
            if self._is_wanted(worker, incoming):
                assert offer is not None, "a wanted update has its round"
                stored = StoredUpdate(
                    worker=worker,
                    sha256=offered.sha256,
                    nbytes=offered.nbytes,
                    samples=offered.samples,
                    train_s=offered.train_s,
                    loss=offered.loss,
                    arrived_s=self.now() - offer.began_s,
                    fingerprint=incoming.fingerprint,
                    confusion=offered.confusion,
                    epsilon=offered.epsilon,
                    delta=offered.delta,
                )
                await asyncio.to_thread(self._store.update_stored, offered.round, stored)
        except StorageError as exc:
            self.storage_failed(worker, incoming, exc)
            raise
        except RemoteProtocolError:
            if self._is_wanted(worker, incoming):
                self._forget(worker)
            raise
        if not self._is_wanted(worker, incoming):
            return  # the round closed while the disk was busy
        self._incoming.pop(worker).file.close()
        self.delivered[worker] = DeliveredUpdate(**vars(stored), path=path)
        self.events.put_nowait(UpdateStored(worker, offered.round))

    async def _on_disk(self, incoming: IncomingUpdate) -> Path:
        """Make the update durable as it travelled; return where its flat buffer lies."""
        file, path = incoming.file, incoming.file.path
        if self.update_form != PLAIN:
            loop = asyncio.get_running_loop()
            path = await loop.run_in_executor(self._computing, self._decoded, file.path, file.nbytes)
        await asyncio.to_thread(file.sync)
        return path

    def _decoded(self, received: Path, nbytes: int) -> Path:
        """Write an update's flat buffer beside what was received; lost in a crash, it is decoded again."""
        path = received.with_suffix(DECODED)
        write_decoded(received, path, nbytes=nbytes, form=self.update_form, manifest=self.manifest)
        return path

    def _is_wanted(self, worker: WorkerName, incoming: IncomingUpdate) -> bool:
        return self._incoming.get(worker) is incoming

    def _forget(self, worker: WorkerName) -> None:
        if worker in self._incoming:
            self._incoming.pop(worker).file.close()


def write_decoded(received: Path, target: Path, *, nbytes: int, form: Form, manifest: Manifest) -> None:
    """Write the flat buffer of an update that travelled in this form; not durably: it can be decoded again.

    Raises `RemoteProtocolError` when it does not decode to this layout, `StorageError`.
    """
    data = torch.empty(nbytes, dtype=torch.uint8)
    read_spooled(received, data, offset=0)
    flat = form.decoded(data, manifest)
    file = SpoolFile(target, flat.numel())
    try:
        file.write(0, bytes_of(flat))
    finally:
        file.close()
