"""Local training: plain PyTorch on one device, reproducible from a seed, stoppable between batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import nn

from fednet.aggregation.batch_norm import norm_tensors
from fednet.config import TrainingSettings, derived_seed
from fednet.errors import TrainingError
from fednet.worker.compute import Compute
from fednet.worker.objective import Objective, parameter_groups, partly_frozen
from fednet.worker.progress import Meter, TrainingProgress


class TrainingData(Protocol):
    """A site's samples as batches on the training device."""

    @property
    def samples(self) -> int:
        """How many samples there are."""

    @property
    def class_counts(self) -> torch.Tensor:
        """How many there are of each class  # (classes,) int64."""

    def batch_count(self, batch_size: int) -> int:
        """Return how many batches an epoch has."""

    def batches(
        self, *, batch_size: int, seed: int, augment: bool, balanced: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images  # (b, 3, s, s) float32, labels  # (b,) int64) of one shuffled epoch.

        Of a worker in several processes: the images of this one's share alone, and all labels.
        `balanced`: drawn with replacement, every class alike, in place of every sample once.
        """


class PickedData(TrainingData, Protocol):
    """A site's samples, which may also be asked for one by one."""

    def picked(self, places: torch.Tensor, *, augmentation_seed: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (images  # (b, 3, s, s) float32, labels  # (b,) int64) of these, on the training device.

        `places`  # (b,) int64, on the CPU; `augmentation_seed` None: as they are.
        """


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to."""

    samples: int
    batches: int
    mean_loss: float  # of the last epoch; 0.0: untold, under differential privacy
    train_s: float
    stopped: bool


def train(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    *,
    seed: int,
    compute: Compute,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train `model`, which is on the device of `compute`, in place for `settings.local_epochs` epochs of SGD.

    Of a part of an epoch, the nearest number of its batches is taken. In channels_last, which is faster on every
    device. The same seed, data and thread count give the same bits on the CPU. Raises `TrainingError` when the loss is
    not finite any more, or one scan is all there is for BatchNorm; `BadInput` for a layer that is not there.

    Of a worker in several processes (`Compute.replicas`) all train alike: the first one's call begins the training,
    with its model, and its `should_stop` counts. Raises `ProcessLost` where one is gone.
    """
    if data.samples == 1 and norm_tensors(model):
        raise TrainingError("1 scan to train on, and BatchNorm needs 2 at once: add scans, or choose resnet18-gn")
    with compute.replicas.training(settings, seed):
        return _train(model, data, settings, seed, compute, on_progress, should_stop)


def _train(
    model: nn.Module,
    data: TrainingData,
    settings: TrainingSettings,
    seed: int,
    compute: Compute,
    on_progress: Callable[[TrainingProgress], None],
    should_stop: Callable[[], bool],
) -> TrainingResult:
    began = time.perf_counter()
    model.train()
    model.to(memory_format=torch.channels_last)
    planned = settings.steps(data.batch_count(settings.batch_size))
    meter = Meter(planned, compute.device, on_progress, epochs=math.ceil(settings.local_epochs))
    mean_loss, stopped = 0.0, False
    with partly_frozen(model, settings.freeze_until):
        optimiser = new_optimiser(model, settings, compute.device)
        network = compute.network(model)
        objective = Objective(model, settings, data.class_counts, device=compute.device)
        for epoch in range(1, math.ceil(settings.local_epochs) + 1):
            meter.begin_epoch(epoch)
            batches = data.batches(
                batch_size=settings.batch_size,
                seed=derived_seed(seed, "epoch", epoch),
                augment=settings.augment,
                balanced=settings.balance == "sampling",
            )
            for images, labels in islice(batches, planned - meter.batches):
                if stopped := compute.replicas.told(should_stop()):
                    break
                meter.count(compute.step(network, optimiser, objective, images, labels), len(labels))
            if stopped:
                break
            mean_loss = meter.epoch_loss(compute.replicas)
    return TrainingResult(data.samples, meter.batches, mean_loss, time.perf_counter() - began, stopped)


def new_optimiser(model: nn.Module, settings: TrainingSettings, device: torch.device) -> torch.optim.Optimizer:
    """Return SGD over all of the model that is trained; its momentum is Nesterov's (Sutskever et al., ICML 2013)."""
    return torch.optim.SGD(
        parameter_groups(model, settings),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
        fused=device.type in ("cpu", "cuda"),
    )
