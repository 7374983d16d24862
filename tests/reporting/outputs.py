"""Made-up outputs of models, for tests of what is computed from them."""

from __future__ import annotations

import torch

from fednet.reporting.intervals import Outputs

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")


def honest_logits(count: int, *, seed: int = 0, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits  # (count, 4) float64, labels drawn from their softmax): perfectly calibrated at temperature 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, len(CLASSES), generator=generator, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(dim=1), 1, generator=generator).flatten()


def outputs_of(logits: torch.Tensor, labels: torch.Tensor, *, temperature: float = 1.0) -> Outputs:
    """Return them as a model's outputs."""
    return Outputs(probabilities=logits.softmax(dim=1), calibrated=(logits / temperature).softmax(dim=1), labels=labels)
