"""Trimmed mean: in each coordinate the f largest and the f smallest values are left out, the others averaged.

Source: Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018.
Condition: n >= 2f + 1.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.ordered import sorted_columns
from fednet.aggregation.rules.rule import Context, Plan, Rule, more_than_half


def trimmed_mean_of(block: torch.Tensor, *, trim: int) -> torch.Tensor:
    """Return every column's mean  # (width,) without its `trim` largest and smallest values; m > 2 trim."""
    kept = sorted_columns(block)[trim : block.shape[0] - trim]
    total = kept[0].clone()
    for row in kept[1:]:
        total += row
    return total / len(kept)


def _plan(geometry: Geometry, context: Context) -> Plan:
    trim = context.byzantine
    everybody = torch.eye(geometry.count, dtype=torch.float64)
    return Plan(weights=everybody, reduce=lambda block: trimmed_mean_of(block, trim=trim))


def trimmed_mean() -> Rule:
    """Return the rule."""
    return Rule(name="trimmed-mean", needs=more_than_half, plan=_plan)
