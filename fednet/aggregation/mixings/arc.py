"""Adaptive robust clipping: the k = floor(2 f/n (n - f)) largest updates are shrunk to the norm of the next one.

Source: Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, "Adaptive Gradient Clipping for Robust Federated Learning",
ICLR 2025. Condition: n >= 2f + 1.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.mixings.norm_clipping import clipped_to
from fednet.aggregation.rules.rule import Context, Mixing, more_than_half


def _weights(geometry: Geometry, context: Context) -> torch.Tensor:
    count, byzantine = geometry.count, context.byzantine
    clipped = 2 * byzantine * (count - byzantine) // count
    norms = geometry.norms()
    return clipped_to(norms, float(norms.sort(descending=True).values[clipped]))


def arc() -> Mixing:
    """Return the mixing."""
    return Mixing(name="arc", needs=more_than_half, weights=_weights)
