"""Nearest-neighbour mixing: each update becomes the average of the n - f updates nearest to it, itself among them.

Source: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan, "Fixing by Mixing: A Recipe for Optimal Byzantine ML
under Heterogeneity", AISTATS 2023. Condition: n >= 2f + 1.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Mixing, more_than_half


def _weights(geometry: Geometry, context: Context) -> torch.Tensor:
    kept = geometry.count - context.byzantine
    distances = geometry.squared_distances()
    distances.fill_diagonal_(-1.0)  # itself first, whatever twins there are
    nearest = torch.sort(distances, dim=1, stable=True).indices[:, :kept]
    return torch.zeros_like(distances).scatter_(1, nearest, 1.0 / kept)


def nnm() -> Mixing:
    """Return the mixing."""
    return Mixing(name="nnm", needs=more_than_half, weights=_weights)
