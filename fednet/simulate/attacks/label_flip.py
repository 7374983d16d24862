"""Training on wrong labels: the update is honest work on y -> classes - 1 - y, alone or with a lie about its weight."""

from __future__ import annotations

from dataclasses import replace

import torch

from fednet.simulate.attacks.sight import Attack, PoisonData, Sight, Submission, as_trained


def label_flip(name: str, *, classes: int) -> Attack:
    """Train on flipped labels (Biggio, Nelson, Laskov, ICML 2012; in federations Tolpegin et al., ESORICS 2020)."""
    return Attack(name=name, poison=as_trained, poison_data=_flipping(classes))


def sample_lies(name: str, *, classes: int, factor: float = 1e6) -> Attack:
    """Train on flipped labels and claim factor times the samples: a mean weighted by claims then is the attacker's."""

    def poison(sight: Sight) -> list[Submission]:
        return [replace(each, samples=round(each.samples * factor)) for each in sight.own]

    return Attack(name=name, poison=poison, poison_data=_flipping(classes))


def _flipping(classes: int) -> PoisonData:
    def flipped(images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return images.clone(), classes - 1 - labels

    return flipped
