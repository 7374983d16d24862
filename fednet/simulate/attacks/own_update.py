"""Attacks that change a worker's own update and need to know nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fednet.simulate.attacks.sight import Attack, Poison, Sight, Submission, with_deltas


def sign_flip(name: str, *, scale: float = 4.0) -> Attack:
    """Send -scale * delta (Li, Xu, Chen, Giannakis, Ling, "RSA", AAAI 2019, with the same sigma = -4)."""
    return Attack(name=name, poison=_each(lambda delta: delta * -scale))


def scaling(name: str, *, factor: float = 10.0) -> Attack:
    """Send factor * delta: the right direction, and a step too long (Bagdasaryan et al., AISTATS 2020, clean data)."""
    return Attack(name=name, poison=_each(lambda delta: delta * factor))


def zero(name: str) -> Attack:
    """Send a delta of zeros: the worker learned nothing."""
    return Attack(name=name, poison=_each(torch.zeros_like))


def nan(name: str) -> Attack:
    """Send NaN in the middle coordinate: enough to poison any mean, and any distance."""
    return Attack(name=name, poison=_each(lambda delta: _with_middle(delta, float("nan"))))


def inf(name: str) -> Attack:
    """Send infinity in the middle coordinate."""
    return Attack(name=name, poison=_each(lambda delta: _with_middle(delta, float("inf"))))


def noise(name: str, *, scale: float = 4.0) -> Attack:
    """Send Gaussian noise of scale times the own delta's norm (Blanchard et al., NeurIPS 2017, "Gaussian")."""
    return Attack(name=name, poison=_noise_of(scale))


def free_rider(name: str, *, noise: float = 0.1) -> Attack:
    """Resend the global model with a little Gaussian noise, of `noise` times the norm that training would have given.

    Sources: Lin, Du, Liu, "Free-riders in Federated Learning: Attacks and Defenses", 2019; Fraboni, Vidal, Lorenzi,
    "Free-rider Attacks on Model Aggregation in Federated Learning", AISTATS 2021 (the disguised free-rider).
    """
    return Attack(name=name, poison=_noise_of(noise))


def gaussian(like: torch.Tensor, *, norm: float, generator: torch.Generator) -> torch.Tensor:
    """Return a random direction  # as `like` (d,) float32, of exactly this norm."""
    drawn = torch.randn(like.shape, generator=generator)
    length = float(drawn.norm())
    return drawn * (norm / length) if length > 0 else drawn


def _noise_of(scale: float) -> Poison:
    def poison(sight: Sight) -> list[Submission]:
        norms = [float(each.delta.norm()) for each in sight.own]
        drawn = [
            gaussian(each.delta, norm=scale * norm, generator=sight.generator)
            for each, norm in zip(sight.own, norms, strict=True)
        ]
        return with_deltas(sight.own, drawn)

    return poison


def _each(change: Callable[[torch.Tensor], torch.Tensor]) -> Poison:
    return lambda sight: with_deltas(sight.own, [change(each.delta) for each in sight.own])


def _with_middle(delta: torch.Tensor, value: float) -> torch.Tensor:
    changed = delta.clone()
    middle = len(delta) // 2
    changed[middle : middle + 1] = value
    return changed
