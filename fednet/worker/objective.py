"""What local training minimises, and which of the model's layers it moves how fast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fednet.config import TrainingSettings
from fednet.errors import BadInput

MOST_CLASS_WEIGHT = 10.0  # a class of three scans must not steer every step it is in


class Objective:
    """Cross-entropy, by class weights, shifted logits and smoothed labels where asked, and FedProx's pull to the start.

    Sources: Szegedy et al. 2016 (label smoothing); Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual
    Recognition", NeurIPS 2020 (a class's logit is raised by the log of its share while training, so that the model
    need not learn the shares; a class the site lacks is hardly pushed down at all); Li et al., "Federated Optimization
    in Heterogeneous Networks", MLSys 2020 (FedProx: mu/2 of the squared distance to the round's global model is added
    to the loss).
    """

    def __init__(
        self, model: nn.Module, settings: TrainingSettings, class_counts: torch.Tensor, *, device: torch.device
    ) -> None:
        """`class_counts`  # (classes,): how many samples of each class the site has."""
        self._smoothing = settings.label_smoothing
        self._weights = class_weights(class_counts).to(device) if settings.balance == "loss" else None
        self._shift = log_shares(class_counts).to(device) if settings.balance == "logits" else None
        self._mu = settings.proximal_mu
        self._pulled = [(each, each.detach().clone()) for each in model.parameters() if self._mu and each.requires_grad]

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the summed loss of some samples, to be divided by `weight_of` the labels of the whole batch."""
        shown = logits if self._shift is None else logits + self._shift
        return functional.cross_entropy(
            shown, labels, weight=self._weights, label_smoothing=self._smoothing, reduction="sum"
        )

    def weight_of(self, labels: torch.Tensor) -> torch.Tensor | int:
        """Return what a mean over these samples divides by: their number, or the sum of their classes' weights."""
        return len(labels) if self._weights is None else self._weights[labels].sum()

    def pull(self) -> None:
        """Add FedProx's mu (w - w_start) to the gradients; nothing where mu is 0."""
        for parameter, start in self._pulled:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self._mu)


def class_weights(counts: torch.Tensor) -> torch.Tensor:
    """Return weights that make every class present count alike  # (classes,) float32, with mean 1 over the samples."""
    present = counts > 0
    even = counts.sum() / present.sum().clamp(min=1)
    return torch.where(present, even / counts.clamp(min=1), torch.ones(())).clamp(max=MOST_CLASS_WEIGHT).float()


def log_shares(counts: torch.Tensor) -> torch.Tensor:
    """Return the log of each class's share of the samples  # (classes,) float32; none counts as half a sample."""
    shown = counts.float().clamp(min=0.5)
    return (shown / shown.sum()).log()


def parameter_groups(model: nn.Module, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Return an optimiser's groups: each block's learning rate is its successor's times `layer_lr_decay`.

    Discriminative fine-tuning (Howard & Ruder, ACL 2018): layers near the input hold what pretraining taught.
    """
    blocks = [model] if settings.layer_lr_decay == 1.0 else _blocks(model)  # of one group, a GPU has less to launch
    trained = [[each for each in block.parameters() if each.requires_grad] for block in blocks]
    last = len(trained) - 1
    return [
        {"params": group, "lr": settings.learning_rate * settings.layer_lr_decay ** (last - index)}
        for index, group in enumerate(trained)
        if group
    ]


def require_trainable(model: nn.Module, settings: TrainingSettings) -> None:
    """Raise `BadInput` where `freeze_until` names no layer of this model, or leaves nothing to train."""
    _frozen_count(model, settings.freeze_until)


@contextlib.contextmanager
def partly_frozen(model: nn.Module, until: str) -> Iterator[None]:
    """Hold everything up to and including the layer `until` as it is, BatchNorm statistics too; "": hold nothing."""
    frozen = list(model.parameters())[: _frozen_count(model, until)]
    was_trained = [each.requires_grad for each in frozen]
    for each in frozen:
        each.requires_grad_(False)
    held = {id(each) for each in frozen}
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and all(id(each) in held for each in own):
            module.eval()
    try:
        yield
    finally:
        for each, before in zip(frozen, was_trained, strict=True):
            each.requires_grad_(before)


def _frozen_count(model: nn.Module, until: str) -> int:
    if not until:
        return 0
    names = [name for name, _ in model.named_parameters()]
    inside = [index for index, name in enumerate(names) if name.startswith(f"{until}.")]
    if not inside or inside[-1] == len(names) - 1:
        blocks = ", ".join(dict.fromkeys(name.split(".")[0] for name in names[:-1]))
        raise BadInput(
            f"--freeze-until {until}",
            found="no layer of this model" if not inside else "the last layer, which leaves nothing to train",
            expected=f"{blocks}, or a layer within",
        )
    return inside[-1] + 1


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the model's outermost layers that have parameters, from the input on; where none has, the model."""
    return [child for child in model.children() if next(child.parameters(), None) is not None] or [model]
