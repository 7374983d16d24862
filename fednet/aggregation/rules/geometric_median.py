"""Geometric median: the point z that minimises sum_i |x_i - z|, by smoothed Weiszfeld steps.

z <- sum_i w_i x_i / sum_i w_i with w_i = 1 / max(nu, |x_i - z|). Source: Pillutla, Kakade, Harchaoui, "Robust
Aggregation for Federated Learning", IEEE TSP 2022 (RFA). Condition: n >= 2f + 1 (its breakdown point is 1/2).
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Plan, Rule, more_than_half, single

_SMOOTHING = 1e-6  # nu, of the median distance: an update that z falls onto must not weigh infinitely
_CONVERGED = 1e-9  # change of a coefficient
_MOST_STEPS = 1000


def _plan(geometry: Geometry, context: Context) -> Plan:
    weights = torch.full((geometry.count,), 1.0 / geometry.count, dtype=torch.float64)
    for _ in range(_MOST_STEPS):
        distances = geometry.distances_to(weights)
        floor = _SMOOTHING * float(distances.median())
        if floor == 0.0:  # half of the updates are this point already
            break
        pulls = 1.0 / distances.clamp(min=floor)
        before, weights = weights, pulls / pulls.sum()
        if float((weights - before).abs().max()) < _CONVERGED:
            break
    return single(weights)


def geometric_median() -> Rule:
    """Return the rule."""
    return Rule(name="geometric-median", needs=more_than_half, plan=_plan)
