"""BatchNorm on purpose: which tensors of a model belong to it, and its statistics taken anew from other images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fednet.errors import BadInput
from fednet.tensors import Manifest, pack, views

_BATCH = 64  # images in one batch of statistics


class Shuffled(Protocol):
    """Images that statistics are taken of (data.loaders.ScanLoader)."""

    def batches(self, *, batch_size: int, seed: int, augment: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images  # (b, 3, s, s) float32, labels  # (b,) int64), shuffled by the seed."""


class Refitter:
    """Gives flat models BatchNorm statistics of some images. Satisfies `fednet.coordinator.service.Refit`."""

    def __init__(self, model: nn.Module, data: Shuffled, manifest: Manifest) -> None:
        """`model`, on the device of `data`, is where the models are put."""
        self._model, self._data, self._manifest = model, data, manifest

    def __call__(self, flat: torch.Tensor) -> torch.Tensor:
        """Return `flat` (uint8) with those statistics."""
        self._model.load_state_dict(views(flat, self._manifest))
        batches = self._data.batches(batch_size=_BATCH, seed=0, augment=False)
        reestimate(self._model, (images for images, _ in batches))
        return pack(self._model.state_dict(), self._manifest)


def norm_tensors(model: nn.Module) -> frozenset[str]:
    """Return the names of all parameters and statistics of BatchNorm layers in the model's state."""
    return frozenset(f"{prefix}.{name}" for prefix, layer in _layers(model).items() for name in layer.state_dict())


def require_batch_norm(model: nn.Module, *, name: str, asked: str) -> None:
    """Raise `BadInput` where `asked` (of `config.BATCH_NORMS`) means something that this model has not."""
    if asked != "averaged" and not _layers(model):
        raise BadInput(
            f"--batch-norm {asked}", found=f"{name}, which has no BatchNorm", todo="leave the option out, or --model"
        )


def reestimate(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Replace the statistics of all BatchNorm layers by those of these images, in one pass, weights untouched.

    Every batch counts alike (a cumulative mean), so batches should be shuffled and of one size. No update can poison
    such statistics (Izmailov et al., UAI 2018, take them anew in the same way after averaging weights).
    """
    layers = _layers(model)
    was_training, rates = model.training, {name: layer.momentum for name, layer in layers.items()}
    model.eval()
    for layer in layers.values():
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative mean
        layer.train()
    with torch.no_grad():
        for images in batches:
            model(images)
    for name, layer in layers.items():
        layer.momentum = rates[name]
    model.train(was_training)


def _layers(model: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)}
