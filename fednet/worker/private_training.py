"""Local training by DP-SGD: scans drawn by chance, each one's gradient clipped, Gaussian noise on their sum.

Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016. The gradients of single scans and their
clipping are Opacus's (Yousefpour et al., 2021). Momentum, weight decay, label smoothing and FedProx's pull come after
the noise, or use one scan alone, and cost no privacy. Nothing else is made of the scans, not even a mean loss.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from fednet.aggregation.batch_norm import norm_tensors
from fednet.config import TrainingSettings
from fednet.errors import TrainingError
from fednet.worker.compute import Compute
from fednet.worker.entropy import Entropy
from fednet.worker.objective import Objective, partly_frozen
from fednet.worker.privacy_ledger import SiteMechanism
from fednet.worker.progress import Meter, TrainingProgress
from fednet.worker.training import PickedData, TrainingResult, new_optimiser

MOST_GRADIENT_BYTES = 2**30  # of single scans' gradients at once, unless it is said how many: 24 scans of ResNet18


def objection_to(training: TrainingSettings, model: nn.Module, *, name: str) -> str | None:
    """Return why `model`, an architecture called `name`, cannot be trained so under differential privacy, or None."""
    if norm_tensors(model):
        return (
            f"the run trains {name}, whose BatchNorm mixes scans, and this hospital trains under differential privacy "
            "only (--dp-epsilon): ask the centre for a run of --model resnet18-gn"
        )
    if training.balance != "none":
        return (
            f"the run asks for --balance {training.balance}, which uses this hospital's numbers of scans by class, and "
            "differential privacy (--dp-epsilon) covers no such use: it takes --balance none, which the centre sets"
        )
    return None


def train_privately(
    model: nn.Module,
    data: PickedData,
    settings: TrainingSettings,
    *,
    mechanism: SiteMechanism,
    clip: float,
    compute: Compute,
    on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train `model`, which is on the device of `compute`, in place by the mechanism's steps of DP-SGD, in float32.

    No two trainings are alike: neither the scans of a step nor the noise follow any seed. The model is one that
    `objection_to` has nothing against. Raises `TrainingError` where its weights are not finite any more, or the memory
    is too small.
    """
    began = time.perf_counter()
    model.train()
    model.to(memory_format=torch.contiguous_format)  # as Opacus lays gradients out: with hooks nothing else is faster
    entropy, stopped = Entropy(), False
    expected = mechanism.sample_rate * data.samples
    meter = Meter(mechanism.steps, compute.device, on_progress, tells_loss=False)
    meter.begin_epoch(1)
    with partly_frozen(model, settings.freeze_until), _single_gradients(model) as network:
        optimiser = new_optimiser(model, settings, compute.device)
        objective = Objective(model, settings, data.class_counts, device=compute.device)
        gradient = NoisyGradient(
            optimiser, clip=clip, noise_multiplier=mechanism.noise_multiplier, expected=expected, entropy=entropy
        )
        at_once = compute.most_at_once or max(1, MOST_GRADIENT_BYTES // gradient.nbytes)
        for _ in range(mechanism.steps):
            if stopped := should_stop():
                break
            for places in torch.split(entropy.chosen(data.samples, mechanism.sample_rate), at_once):
                seed = entropy.seed() if settings.augment else None
                _take(gradient, network, objective, *data.picked(places, augmentation_seed=seed))
            gradient.finish()
            objective.pull()
            optimiser.step()
            meter.count(torch.zeros(()), round(expected))  # not how many there were: that is private
    require_finite(model, otherwise="the model's weights are not finite any more: lower --lr")
    return TrainingResult(data.samples, meter.batches, 0.0, time.perf_counter() - began, stopped)


class NoisyGradient:
    """The gradient of one step: of single scans, each clipped to a norm of `clip`, summed, with noise, over `expected`.

    `expected` is how many scans a step has on average; how many it has is private.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        *,
        clip: float,
        noise_multiplier: float,
        expected: float,
        entropy: Entropy,
    ) -> None:
        self._deviation = noise_multiplier * clip
        self._expected, self._entropy = expected, entropy
        self._clipper = DPOptimizer(
            optimiser,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._parameters: list[Any] = self._clipper.params

    @property
    def nbytes(self) -> int:
        """How much memory the gradient of one scan takes."""
        return sum(each.numel() * each.element_size() for each in self._parameters)

    def take(self) -> None:
        """Clip the gradients that a backward pass has left of some scans, and add them up.

        A scan whose gradient is not finite adds nothing: a model made for it would tell by the sum whether it is there.
        """
        flat = [each.grad_sample.flatten(start_dim=1) for each in self._parameters]
        lost = ~torch.stack([each.norm(dim=1) for each in flat]).norm(dim=0).isfinite()
        if bool(lost.any()):
            for each in flat:
                each[lost] = 0.0
        self._clipper.clip_and_accumulate()
        for each in self._parameters:
            each.grad_sample = None

    def finish(self) -> None:
        """Leave the step's gradient, with its noise, in the parameters' `grad`; begin the next one."""
        for each in self._parameters:
            noise = self._entropy.noise(each, deviation=self._deviation)
            each.grad = (noise if each.summed_grad is None else noise.add_(each.summed_grad)).div_(self._expected)
            each.summed_grad = None


def _take(
    gradient: NoisyGradient, network: nn.Module, objective: Objective, images: torch.Tensor, labels: torch.Tensor
) -> None:
    if len(labels) == 0:  # by chance, a step may have no scan: it is noise alone
        return
    try:
        images = images.contiguous().requires_grad_()  # else torch warns of the first layer's hook
        torch.autograd.backward(objective.loss(network(images), labels))
        gradient.take()
    except torch.OutOfMemoryError as exc:
        raise TrainingError(
            f"the memory of {images.device} is too small for the single gradients of so many scans at once: join "
            "with a smaller --images-at-once"  # of how many is not told: what was drawn is private
        ) from exc


@contextlib.contextmanager
def _single_gradients(model: nn.Module) -> Iterator[nn.Module]:
    """Give what computes `model` and leaves each scan's gradient in `grad_sample`; afterwards it is as it was."""
    network: Any = GradSampleModule(model, loss_reduction="sum")
    try:
        yield network
    finally:
        network.cleanup()
        for module in model.modules():
            module.__dict__.pop("activations", None)
            module.__dict__.pop("max_batch_len", None)
        for each in model.parameters():
            each.__dict__.pop("summed_grad", None)
            each.grad = None


def require_finite(model: nn.Module, *, otherwise: str) -> None:
    """Raise `TrainingError`, saying so, unless all weights are numbers.

    That tells nothing of the scans: weights that were trained have their noise.
    """
    if not all(bool(each.isfinite().all()) for each in model.parameters()):
        raise TrainingError(otherwise)
