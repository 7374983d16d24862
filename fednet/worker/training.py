"""Local training: plain PyTorch on one device, reproducible from a seed, stoppable between batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from fednet.config import TrainingSettings, derived_seed
from fednet.errors import TrainingError

PROGRESS_EVERY_S = 1.0


class TrainingData(Protocol):
    """A site's samples as batches on the training device."""

    @property
    def samples(self) -> int:
        """How many samples there are."""

    def batch_count(self, batch_size: int) -> int:
        """Return how many batches an epoch has."""

    def batches(self, *, batch_size: int, seed: int, augment: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images  # (b, 3, s, s) float32, labels  # (b,) int64) of one shuffled epoch."""


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is."""

    fraction: float  # 0 to 1
    epoch: int  # from 1
    loss: float  # mean since the last report
    images_per_s: float
    remaining_s: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to."""

    samples: int
    batches: int
    mean_loss: float  # of the last epoch
    train_s: float
    stopped: bool


def train(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    *,
    seed: int,
    device: torch.device,
    on_progress: Callable[[TrainingProgress], None],
    should_stop: Callable[[], bool],
) -> TrainingResult:
    """Train `model` in place for `settings.local_epochs` epochs of SGD with momentum.

    In channels_last, which is faster on every device, and on CUDA in mixed precision (bfloat16). The same seed, data
    and thread count give the same bits on the CPU. Raises `TrainingError` when the loss is not finite any more.
    """
    began = time.perf_counter()
    model.train()
    model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )
    meter = _Meter(settings.local_epochs * data.batch_count(settings.batch_size), device, on_progress)
    mean_loss = 0.0
    for epoch in range(1, settings.local_epochs + 1):
        meter.begin_epoch(epoch)
        epoch_seed = derived_seed(seed, "epoch", epoch)
        for images, labels in data.batches(batch_size=settings.batch_size, seed=epoch_seed, augment=settings.augment):
            if should_stop():
                return TrainingResult(data.samples, meter.batches, mean_loss, time.perf_counter() - began, True)
            meter.count(_step(model, optimiser, images, labels, device), len(labels))
        mean_loss = meter.epoch_loss()
    return TrainingResult(data.samples, meter.batches, mean_loss, time.perf_counter() - began, False)


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    device: torch.device,
) -> torch.Tensor:
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        loss = functional.cross_entropy(model(images), labels)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
    return loss.detach()


class _Meter:
    """Counts batches and loss on the device, and looks at them about once a second: no synchronisation in between."""

    def __init__(self, total: int, device: torch.device, on_progress: Callable[[TrainingProgress], None]) -> None:
        self.batches = 0
        self._total = total
        self._on_progress = on_progress
        self._epoch = 0
        self._epoch_sum = torch.zeros((), device=device)
        self._epoch_batches = self._images = self._reported_batches = 0
        self._reported_sum = 0.0
        self._began = self._reported = time.perf_counter()

    def begin_epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._epoch_sum.zero_()
        self._epoch_batches = self._reported_batches = 0
        self._reported_sum = 0.0

    def count(self, loss: torch.Tensor, images: int) -> None:
        self._epoch_sum += loss
        self._epoch_batches += 1
        self.batches += 1
        self._images += images
        if time.perf_counter() - self._reported >= PROGRESS_EVERY_S:
            self._report()

    def epoch_loss(self) -> float:
        """Return the epoch's mean loss; raises `TrainingError` when it is not finite."""
        mean = float(self._epoch_sum) / max(1, self._epoch_batches)
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
            TrainingProgress(done, self._epoch, recent, self._images / elapsed, elapsed * (1 - done) / done)
        )
