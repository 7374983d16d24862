"""Norm clipping: x_i min(1, tau / |x_i|): no update is larger than tau, whatever its direction.

Source: Sun, Kairouz, Suresh, McMahan, "Can You Really Backdoor Federated Learning?", 2019. Condition: n >= 2f + 1 where
tau is the median norm (an honest one's then), else n >= 1.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Mixing, more_than_half
from fednet.errors import BadInput


def clipped_to(norms: torch.Tensor, most: float) -> torch.Tensor:
    """Return the diagonal weights  # (n, n) float64 that shrink each update to a norm of at most `most`."""
    return torch.diag(torch.where(norms > most, most / norms, 1.0))


def norm_clipping(*, tau: float = 0.0) -> Mixing:
    """Return the mixing; `tau` is the largest norm, the median norm where it is 0."""
    if tau < 0:
        raise BadInput("tau of norm-clipping", found=f"{tau:g}", expected="a norm, or 0 for the median norm")

    def weights(geometry: Geometry, context: Context) -> torch.Tensor:
        norms = geometry.norms()
        return clipped_to(norms, tau or float(norms.median()))

    return Mixing(name="norm-clipping", needs=more_than_half if tau == 0 else lambda byzantine: 1, weights=weights)
