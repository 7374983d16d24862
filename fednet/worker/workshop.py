"""A worker's bench for one run: its model, scans and buffers, and the local training of a round on them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from fednet.config import TrainingSettings, derived_seed
from fednet.errors import ModelError
from fednet.protocol.messages import RoundStarted
from fednet.tensors import Manifest, bytes_of, digest_of, empty_flat, manifest_of, pack, update_from, views
from fednet.transport.intake import Intake, MemoryStore
from fednet.worker.session import UpdateSaved
from fednet.worker.training import TrainingData, TrainingProgress, train

Tamper = Callable[[torch.Tensor, Manifest], torch.Tensor]
"""Turns an honest update (uint8 flat) into what is sent: for demonstrations and tests of the coordinator's defence."""


@dataclass(frozen=True, kw_only=True)
class SavedTraining:
    """What `client_<id>.pth` says about the round it was trained in; it makes the update sendable again."""

    run: str
    round: int
    base_sha256: str
    samples: int
    train_s: float
    loss: float


class OwnModel(Protocol):
    """Keeps the hospital's own model, `client_<id>.pth`, across restarts."""

    def save(self, flat: torch.Tensor, saved: SavedTraining) -> None:
        """Write the model (uint8 flat) atomically; raises `DiskFull`."""

    def load(self) -> tuple[torch.Tensor, SavedTraining] | None:
        """Return what was saved last, or None where nothing usable is there."""


class Workshop:
    """Trains in one run. `work` runs in a thread, one at a time; `stop` may be called from any."""

    def __init__(
        self,
        *,
        run: str,
        worker: str,
        model: nn.Module,
        data: TrainingData,
        device: torch.device,
        own_model: OwnModel,
        tamper: Tamper | None = None,
    ) -> None:
        self.device = device
        self.manifest = manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()])
        self.samples = data.samples
        self.update = empty_flat(self.manifest)
        self._run = run
        self._worker = worker
        self._model = model.to(device)
        self._data = data
        self._own_model = own_model
        self._tamper = tamper
        self._base = empty_flat(self.manifest)
        self._stop = threading.Event()
        self._looks_for_saved = True

    def new_intake(self, *, nbytes: int, sha256: str) -> Intake:
        """Return an intake that receives a global model into this workshop's buffer.

        Raises `ModelError` when its size is not that of this worker's own manifest.
        """
        if nbytes != self.manifest.total_bytes:
            raise ModelError("global model", found=f"{nbytes} bytes", expected=f"{self.manifest.total_bytes} bytes")
        return Intake(MemoryStore(bytes_of(self._base)), nbytes=nbytes, sha256=sha256)

    def stop(self) -> None:
        """Make a training under way end at its next batch."""
        self._stop.set()

    def work(
        self, started: RoundStarted, training: TrainingSettings, on_progress: Callable[[TrainingProgress], None]
    ) -> UpdateSaved | None:
        """Train on the received model, save the result, prepare `update`; None when stopped.

        A result of the same round that an earlier process saved is taken instead of training again. Raises
        `TrainingError` or `StorageError`.
        """
        self._stop.clear()
        result = self._trained_before(started) or self._train(started, training, on_progress)
        if result is None:
            return None
        local, saved = result
        update = update_from(local, self._base, self.manifest)
        self.update = update if self._tamper is None else self._tamper(update, self.manifest)
        return UpdateSaved(
            round=started.round,
            nbytes=self.update.numel(),
            sha256=digest_of(self.update),
            samples=saved.samples,
            train_s=saved.train_s,
            loss=saved.loss,
        )

    def _trained_before(self, started: RoundStarted) -> tuple[torch.Tensor, SavedTraining] | None:
        if not self._looks_for_saved:
            return None  # what this process trained is in its memory; the file matters to the process after it
        self._looks_for_saved = False
        found = self._own_model.load()
        if found is None or found[0].numel() != self.manifest.total_bytes:
            return None
        saved = found[1]
        is_same = (saved.run, saved.round, saved.base_sha256) == (self._run, started.round, started.sha256)
        return found if is_same else None

    def _train(
        self, started: RoundStarted, training: TrainingSettings, on_progress: Callable[[TrainingProgress], None]
    ) -> tuple[torch.Tensor, SavedTraining] | None:
        self._model.load_state_dict(views(self._base, self.manifest))
        result = train(
            self._model,
            self._data,
            training,
            seed=derived_seed(started.seed, "train", self._worker, started.round),
            device=self.device,
            on_progress=on_progress,
            should_stop=self._stop.is_set,
        )
        if result.stopped:
            return None
        saved = SavedTraining(
            run=self._run,
            round=started.round,
            base_sha256=started.sha256,
            samples=result.samples,
            train_s=result.train_s,
            loss=result.mean_loss,
        )
        local = pack(self._model.state_dict(), self.manifest)
        self._own_model.save(local, saved)
        return local, saved
