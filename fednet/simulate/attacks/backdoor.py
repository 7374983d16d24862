"""Backdoor: a bright square in a corner means `target`, learned on marked images and sent by model replacement."""

from __future__ import annotations

import torch

from fednet.errors import BadInput
from fednet.simulate.attacks.sight import Attack, Sight, Submission, with_deltas

_SIDE = 8  # the square's side is this part of the image's
_MARGIN = 16  # and this part keeps it off the edge, where augmentation cuts
_BRIGHT = 255


def backdoor(name: str, *, classes: int, factor: float = 5.0, share: float = 0.5, target: float = 0.0) -> Attack:
    """Mark a share of the attacker's images, label them `target`, and send factor * delta.

    Sources: Gu, Dolan-Gavitt, Garg, "BadNets", 2017 (the trigger); Bagdasaryan, Veit, Hua, Estrin, Shmatikov, "How To
    Backdoor Federated Learning", AISTATS 2020 (model replacement: X~ = gamma (X - G) + G, so factor is gamma = total
    weight / own weight, which a worker has to guess). Raises `BadInput` for a target that is no class.
    """
    label = int(target)
    if not 0 <= label < classes:
        raise BadInput(f"attack {name}", found=f"target {label}", expected=f"0 to {classes - 1}")

    def poison_data(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = _spread(len(images), share)
        images, labels = images.clone(), labels.clone()
        images[chosen] = marked(images[chosen])
        labels[chosen] = label
        return images, labels

    def poison(sight: Sight) -> list[Submission]:
        return with_deltas(sight.own, [each.delta * factor for each in sight.own])

    return Attack(name=name, poison=poison, poison_data=poison_data, trigger=marked, target=label)


def marked(images: torch.Tensor) -> torch.Tensor:
    """Return copies with the trigger, a white square near the lower right corner  # (n, 1, s, s) uint8."""
    size = images.shape[-1]
    end = size - size // _MARGIN
    start = end - max(1, size // _SIDE)
    marked = images.clone()
    marked[..., start:end, start:end] = _BRIGHT
    return marked


def _spread(count: int, share: float) -> torch.Tensor:
    """Return which of `count` images are poisoned  # (count,) bool: evenly spread, as data come ordered by class."""
    reached = (torch.arange(count + 1) * share).floor()
    return reached[1:] > reached[:-1]
