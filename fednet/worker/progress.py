"""How far a training is, and its mean loss, without making the device wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fednet.errors import TrainingError
from fednet.worker.replicas import ALONE, Replicas

PROGRESS_EVERY_S = 1.0


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is."""

    fraction: float  # 0 to 1
    epoch: int  # from 1
    loss: float | None  # mean since the last report; None: it stays untold, under differential privacy
    images_per_s: float
    remaining_s: float
    epochs: int = 0  # planned; 0: steps are planned, not epochs
    batch: int = 0  # of all epochs, from 1
    batches: int = 0  # planned; 0: not told


class Meter:
    """Counts batches and loss on the device, and looks at them about once a second: no synchronisation in between."""

    def __init__(
        self,
        total: int,
        device: torch.device,
        on_progress: Callable[[TrainingProgress], None],
        *,
        epochs: int = 0,
        tells_loss: bool = True,
    ) -> None:
        """`total`: batches of all epochs; `epochs`: how many, 0 where none are counted."""
        self.batches = 0
        self._epochs = epochs
        self._tells_loss = tells_loss
        self._total = total
        self._on_progress = on_progress
        self._epoch = 0
        self._epoch_sum = torch.zeros((), device=device)
        self._epoch_batches = self._images = self._reported_batches = 0
        self._reported_sum = 0.0
        self._began = self._reported = time.perf_counter()

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch (from 1)."""
        self._epoch = epoch
        self._epoch_sum.zero_()
        self._epoch_batches = self._reported_batches = 0
        self._reported_sum = 0.0

    def count(self, loss: torch.Tensor, images: int) -> None:
        """Take a batch's mean loss (a scalar on the device) and size."""
        self._epoch_sum += loss
        self._epoch_batches += 1
        self.batches += 1
        self._images += images
        if time.perf_counter() - self._reported >= PROGRESS_EVERY_S:
            self._report()

    def epoch_loss(self, replicas: Replicas = ALONE) -> float:
        """Return the epoch's mean loss, over all processes; raises `TrainingError` when it is not finite."""
        mean = float(replicas.averaged(self._epoch_sum)) / max(1, self._epoch_batches)
        if not math.isfinite(mean):
            raise TrainingError(f"the loss became {mean} in epoch {self._epoch}: lower --lr, or look at the data")
        return mean

    def _report(self) -> None:
        self._reported = time.perf_counter()
        elapsed = self._reported - self._began
        loss_sum = float(self._epoch_sum)
        recent = (loss_sum - self._reported_sum) / max(1, self._epoch_batches - self._reported_batches)
        self._reported_sum, self._reported_batches = loss_sum, self._epoch_batches
        done = self.batches / max(1, self._total)
        self._on_progress(
            TrainingProgress(
                done,
                self._epoch,
                recent if self._tells_loss else None,
                self._images / elapsed,
                elapsed * (1 - done) / done,
                epochs=self._epochs,
                batch=self.batches,
                batches=self._total,
            )
        )
