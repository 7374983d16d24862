"""Bucketing: the updates are shuffled into buckets of s, and each bucket becomes its average.

Source: Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022.
Condition: every malicious update may spoil a bucket, so the rule's own condition must hold for ceil(n / s) and f.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Mixing
from fednet.errors import BadInput


def bucketing(*, s: float = 2) -> Mixing:
    """Return the mixing; `s` updates to a bucket."""
    size = int(s)
    if s != size or size < 1:
        raise BadInput("s of bucketing", found=f"{s:g}", expected="a whole number from 1")

    def weights(geometry: Geometry, context: Context) -> torch.Tensor:
        generator = torch.Generator().manual_seed(context.seed)
        buckets = torch.split(torch.randperm(geometry.count, generator=generator), size)
        mixing = torch.zeros(len(buckets), geometry.count, dtype=torch.float64)
        for number, members in enumerate(buckets):
            mixing[number, members] = 1.0 / len(members)
        return mixing

    return Mixing(name="bucketing", needs=lambda byzantine: 1, weights=weights, points=lambda count: -(-count // size))
