"""A worker's bench for one run: its model, scans and buffers, and the local training of a round on them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from fednet.compression.forms import PLAIN, Form, with_feedback
from fednet.config import TrainingSettings, derived_seed
from fednet.errors import ModelError
from fednet.protocol.messages import RoundStarted
from fednet.tensors import Manifest, bytes_of, digest_of, empty_flat, manifest_of, pack, update_from, views
from fednet.transport.intake import Intake, MemoryStore
from fednet.worker.compute import Compute
from fednet.worker.held_out import NOTHING_TOLD, HeldOut
from fednet.worker.own_norm import OwnNorm
from fednet.worker.progress import TrainingProgress
from fednet.worker.session import UpdateSaved
from fednet.worker.training import TrainingData, TrainingResult, train

if TYPE_CHECKING:
    from fednet.worker.privacy import SitePrivacy  # brings Opacus, which takes seconds

Tamper = Callable[[torch.Tensor, Manifest], torch.Tensor]
"""Turns an honest update (uint8 flat) into the one that is sent: for demonstrations and tests of the defence."""


@dataclass(frozen=True, kw_only=True)
class SavedTraining:
    """What `client_<id>.pth` says about the round it was trained in; it makes the update sendable again."""

    run: str
    round: int
    base_sha256: str
    samples: int
    train_s: float
    loss: float
    epsilon: float = 0.0  # spent with it, by all of the hospital's trainings; 0: without differential privacy
    delta: float = 0.0
    ledger: str = ""  # digest of the privacy ledger's last line at that moment


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """A rounded update and what its rounding lost, which the next update makes up for (error feedback).

    It does so whatever became of this one: a worker that was not selected carries on from its own last update.
    """

    run: str
    round: int
    base_sha256: str
    travels: torch.Tensor  # (n,) uint8
    lost: torch.Tensor  # (parameter_count,) float32
    is_private: bool = False  # trained under differential privacy


class OwnModel(Protocol):
    """Keeps the hospital's own model, `client_<id>.pth`, across restarts, and beside it what rounding lost."""

    def save(self, flat: torch.Tensor, saved: SavedTraining) -> None:
        """Write the model (uint8 flat) atomically; raises `DiskFull`."""

    def load(self) -> tuple[torch.Tensor, SavedTraining] | None:
        """Return what was saved last, or None where nothing usable is there."""

    def save_rounded(self, rounded: Rounded) -> None:
        """Write it atomically; raises `DiskFull`."""

    def load_rounded(self) -> Rounded | None:
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
        compute: Compute,
        own_model: OwnModel,
        tamper: Tamper | None = None,
        held_out: HeldOut | None = None,
        update_form: Form = PLAIN,
        model_form: Form = PLAIN,
        keeps_norm: bool = False,
        privacy: SitePrivacy | None = None,
    ) -> None:
        """`update_form` and `model_form`: how updates and global models travel in this run.

        `keeps_norm`: this site's BatchNorm is its own, and is never replaced by the global one. `privacy`: trains in
        place of plain training, on the same data.
        """
        self.device = compute.device
        self.manifest = manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()])
        self.samples = data.samples
        self.update = empty_flat(self.manifest)  # as it travels
        self._run = run
        self._worker = worker
        self._model = model.to(compute.device)
        self._data = data
        self._compute = compute
        self._own_model = own_model
        self._tamper = tamper
        self._held_out = held_out
        self._privacy = privacy
        self._update_form, self._model_form = update_form, model_form
        self._base = empty_flat(self.manifest)
        self._received = self._base  # as the model travelled
        self._rounded: Rounded | None = None
        self._stop = threading.Event()
        self._looks_for_saved = True
        self._own_norm = self._norm_so_far() if keeps_norm else None

    def new_intake(self, *, nbytes: int, sha256: str) -> Intake:
        """Return an intake that receives a global model into this workshop's buffer.

        Raises `ModelError` when its size cannot be that of this worker's own manifest.
        """
        if not self._model_form.fits(nbytes, self.manifest):
            raise ModelError("global model", found=f"{nbytes} bytes", expected=f"{self.manifest.total_bytes} bytes")
        if self._model_form != PLAIN:
            self._received = torch.empty(nbytes, dtype=torch.uint8)
        return Intake(MemoryStore(bytes_of(self._received)), nbytes=nbytes, sha256=sha256)

    def stop(self) -> None:
        """Make a training under way end at its next batch."""
        self._stop.set()

    def work(
        self, started: RoundStarted, training: TrainingSettings, on_progress: Callable[[TrainingProgress], None]
    ) -> UpdateSaved | None:
        """Judge the received model, train on it, save the result, prepare `update`; None when stopped.

        A result of the same round that an earlier process saved is taken instead of training again: under differential
        privacy it is not charged again either. Raises `TrainingError`, `StorageError`, or `Refused` where no privacy
        is left.
        """
        self._stop.clear()
        self._base = self._model_form.decoded(self._received, self.manifest)
        confusion = self._judge_base(started.round)
        if confusion is None:
            return None
        result = self._trained_before(started) or self._train(started, training, on_progress)
        if result is None:
            return None
        local, saved = result
        update = update_from(local, self._base, self.manifest)
        if self._tamper is not None:
            update = self._tamper(update, self.manifest)
        self.update = self._encoded(update, started)
        return UpdateSaved(
            round=started.round,
            nbytes=self.update.numel(),
            sha256=digest_of(self.update),
            samples=saved.samples,
            train_s=saved.train_s,
            loss=saved.loss,
            confusion=confusion,
            epsilon=saved.epsilon,
            delta=saved.delta,
        )

    def _judge_base(self, round_number: int) -> tuple[int, ...] | None:
        """Return what the coordinator is told of the received model on this site's held-out scans; None when stopped.

        Judged anew after a restart: the same model and scans give the same counts.
        """
        if self._held_out is None:
            return NOTHING_TOLD
        self._model.load_state_dict(views(self._base, self.manifest))
        return self._held_out.judge(self._model, round_number=round_number, should_stop=self._stop.is_set)

    def _encoded(self, update: torch.Tensor, started: RoundStarted) -> torch.Tensor:
        """Return the update as it travels; the same again where an earlier process had come so far."""
        if self._update_form.rounding is None:
            return self._update_form.encoded(update, self.manifest)
        before = self._rounded or self._own_model.load_rounded()
        if before is not None and self._goes_on_from(before):
            if (before.round, before.base_sha256) == (started.round, started.sha256):
                self._rounded = before
                return before.travels
            owed = before.lost
        else:
            owed = None
        travels, lost = with_feedback(self._update_form, update, owed, self.manifest)
        self._rounded = Rounded(
            run=self._run,
            round=started.round,
            base_sha256=started.sha256,
            travels=travels,
            lost=lost,
            is_private=self._privacy is not None,
        )
        self._own_model.save_rounded(self._rounded)
        return travels

    def _goes_on_from(self, before: Rounded) -> bool:
        is_own = before.run == self._run and len(before.lost) == self.manifest.parameter_count
        return is_own and (before.is_private or self._privacy is None)

    def _norm_so_far(self) -> OwnNorm:
        """Return this site's BatchNorm, that of an earlier process of this run included."""
        norm, found = OwnNorm(self._model), self._own_model.load()
        if found is not None and found[0].numel() == self.manifest.total_bytes and found[1].run == self._run:
            norm.keep(views(found[0], self.manifest))
        return norm

    def _trained_before(self, started: RoundStarted) -> tuple[torch.Tensor, SavedTraining] | None:
        if not self._looks_for_saved and self._privacy is None:
            return None  # what this process trained is in its memory; the file matters to the process after it
        self._looks_for_saved = False
        found = self._own_model.load()
        if found is None or found[0].numel() != self.manifest.total_bytes:
            return None
        saved = found[1]
        is_same = (saved.run, saved.round, saved.base_sha256) == (self._run, started.round, started.sha256)
        is_as_agreed = self._privacy is None or saved.epsilon > 0
        return found if is_same and is_as_agreed else None

    def _train(
        self, started: RoundStarted, training: TrainingSettings, on_progress: Callable[[TrainingProgress], None]
    ) -> tuple[torch.Tensor, SavedTraining] | None:
        self._model.load_state_dict(views(self._base, self.manifest))
        if self._own_norm is not None:
            self._own_norm.restore(self._model)
        result = self._trained(started, training, on_progress)
        if result.stopped:
            return None
        saved = SavedTraining(
            run=self._run,
            round=started.round,
            base_sha256=started.sha256,
            samples=result.samples,
            train_s=result.train_s,
            loss=result.mean_loss,
            epsilon=self._privacy.epsilon if self._privacy else 0.0,
            delta=self._privacy.delta if self._privacy else 0.0,
            ledger=self._privacy.head if self._privacy else "",
        )
        if self._own_norm is not None:
            self._own_norm.keep(self._model.state_dict())
        local = pack(self._model.state_dict(), self.manifest)
        self._own_model.save(local, saved)
        return local, saved

    def _trained(
        self, started: RoundStarted, training: TrainingSettings, on_progress: Callable[[TrainingProgress], None]
    ) -> TrainingResult:
        if self._privacy is not None:
            return self._privacy.train(
                self._model,
                training,
                round_number=started.round,
                compute=self._compute,
                on_progress=on_progress,
                should_stop=self._stop.is_set,
            )
        return train(
            self._model,
            self._data,
            training,
            seed=derived_seed(started.seed, "train", self._worker, started.round),
            compute=self._compute,
            on_progress=on_progress,
            should_stop=self._stop.is_set,
        )
