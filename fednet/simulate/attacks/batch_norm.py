"""Poisoned BatchNorm statistics beside an honest delta: no distance between deltas can see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from fednet.simulate.attacks.sight import Attack, Sight, Submission

_MEAN = "running_mean"
_VARIANCE = "running_var"


def bn_stats(name: str, *, shift: float = 10.0, factor: float = 100.0) -> Attack:
    """Send running_mean + shift * sqrt(running_var), and running_var * factor; all stay positive and finite.

    The delta is honest, so every score is, and the aggregated model still answers nonsense. No paper's: it is the gap
    that aggregating statistics without looking at them leaves.
    """

    def poison(sight: Sight) -> list[Submission]:
        return [replace(each, buffers=_poisoned(each.buffers, shift, factor)) for each in sight.own]

    return Attack(name=name, poison=poison)


def _poisoned(buffers: Mapping[str, torch.Tensor], shift: float, factor: float) -> dict[str, torch.Tensor]:
    poisoned = dict(buffers)
    for name, values in buffers.items():
        if name.endswith(_VARIANCE):
            poisoned[name] = values * factor
        elif name.endswith(_MEAN):
            variance = buffers.get(name.removesuffix(_MEAN) + _VARIANCE, torch.ones_like(values))
            poisoned[name] = values + shift * variance.sqrt()
    return poisoned
