"""Phantoms as an attacker has them, for tests."""

from typing import Any

import torch


def grey(drawn: list[tuple[Any, int]]) -> torch.Tensor:
    """Return phantoms as grey images of 0 to 1  # (n, 1, s, s)."""
    return torch.stack([torch.from_numpy(pixels) for pixels, _ in drawn]).unsqueeze(1).float() / 255
