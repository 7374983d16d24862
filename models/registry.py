"""The architectures by name: the names of `--model`."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fednet.errors import ModelError
from models.resnet import resnet18
from models.small_cnn import SmallCnn

_ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {"resnet18": resnet18, "small-cnn": SmallCnn}


def names() -> tuple[str, ...]:
    """Return the names of all architectures."""
    return tuple(_ARCHITECTURES)


def build(name: str, *, classes: int) -> nn.Module:
    """Return an untrained model with `classes` logits; raises `ModelError` for an unknown name.

    Its weights come from torch's global generator: seed that first for the same weights twice.
    """
    if name not in _ARCHITECTURES:
        raise ModelError(f"--model {name}", found="no such architecture", expected=", ".join(_ARCHITECTURES))
    return _ARCHITECTURES[name](classes)
