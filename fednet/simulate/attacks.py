"""What a malicious worker sends instead of its update; each returns a new flat buffer (uint8)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fednet.errors import BadInput
from fednet.tensors import Manifest, parameters_of

Attack = Callable[[torch.Tensor, Manifest], torch.Tensor]

SIGN_FLIP_SCALE = -4.0
NOISE_SCALE = 4.0  # of the honest update's norm


def attack_named(name: str, *, seed: int) -> Attack:
    """Return the attack of that name; raises `BadInput` with those there are."""
    attacks: dict[str, Attack] = {"sign-flip": sign_flip, "noise": noise_from(seed), "nan": nan}
    if name not in attacks:
        raise BadInput(f"--attack {name}", found="no such attack", expected=", ".join(attacks))
    return attacks[name]


def sign_flip(update: torch.Tensor, manifest: Manifest) -> torch.Tensor:
    """Send the update backwards, four times as large: -4 * delta."""
    poisoned = update.clone()
    parameters_of(poisoned, manifest).mul_(SIGN_FLIP_SCALE)
    return poisoned


def noise_from(seed: int) -> Attack:
    """Return an attack that sends Gaussian noise, four times as large as the honest update."""
    generator = torch.Generator().manual_seed(seed)

    def noise(update: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        poisoned = update.clone()
        delta = parameters_of(poisoned, manifest)
        drawn = torch.randn(delta.shape, generator=generator)
        delta.copy_(drawn * (NOISE_SCALE * delta.norm() / drawn.norm()))
        return poisoned

    return noise


def nan(update: torch.Tensor, manifest: Manifest) -> torch.Tensor:
    """Send NaN in one coordinate: enough to poison any mean, and any distance."""
    poisoned = update.clone()
    parameters_of(poisoned, manifest)[manifest.parameter_count // 2] = float("nan")
    return poisoned
