"""The architectures by name: the names of `--model`, what builds each, and where it is asked what it looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from fednet.errors import ModelError
from models.resnet import resnet18, resnet18_gn
from models.small_cnn import SmallCnn


@dataclass(frozen=True)
class Architecture:
    """How a model is built for a number of classes, and its last convolution: what Grad-CAM is about."""

    build: Callable[[int], nn.Module]
    last_convolution: str  # the module's name


_ARCHITECTURES = {
    "resnet18": Architecture(resnet18, last_convolution="layer4.1.conv2"),
    "resnet18-gn": Architecture(resnet18_gn, last_convolution="layer4.1.conv2"),
    "small-cnn": Architecture(SmallCnn, last_convolution="features.3.0"),
}


def names() -> tuple[str, ...]:
    """Return the names of all architectures."""
    return tuple(_ARCHITECTURES)


def build(name: str, *, classes: int) -> nn.Module:
    """Return an untrained model with `classes` logits; raises `ModelError` for an unknown name.

    Its weights come from torch's global generator: seed that first for the same weights twice.
    """
    return _architecture(name).build(classes)


def last_convolution(model: nn.Module, name: str) -> nn.Module:
    """Return that layer of a model which `build` made by this name."""
    return model.get_submodule(_architecture(name).last_convolution)


def _architecture(name: str) -> Architecture:
    if name not in _ARCHITECTURES:
        raise ModelError(f"--model {name}", found="no such architecture", expected=", ".join(_ARCHITECTURES))
    return _ARCHITECTURES[name]
