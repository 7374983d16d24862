"""Centered clipping: v <- v + 1/n sum_i (x_i - v) min(1, tau / |x_i - v|), from v = 0.

Source: Karimireddy, He, Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021 (there v starts at
the step of the round before; here at none, so that a round depends on its own updates alone). Condition: n >= 2f + 1.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Plan, Rule, more_than_half, single
from fednet.errors import BadInput


def centered_clipping(*, tau: float = 0.0, iterations: float = 5) -> Rule:
    """Return the rule; `tau` is the radius, the median distance of each iteration where it is 0."""
    if tau < 0 or iterations != int(iterations) or not 1 <= iterations <= 1000:
        raise BadInput(
            "centered-clipping",
            found=f"tau={tau:g}, iterations={iterations:g}",
            expected="tau from 0, 1 to 1000 iterations",
        )

    def plan(geometry: Geometry, context: Context) -> Plan:
        place = torch.zeros(geometry.count, dtype=torch.float64)
        for _ in range(int(iterations)):
            distances = geometry.distances_to(place)
            radius = tau or float(distances.median())
            shrink = torch.where(distances > radius, radius / distances, 1.0)
            place = place * (1.0 - shrink.mean()) + shrink / geometry.count
        return single(place)

    return Rule(name="centered-clipping", needs=more_than_half, plan=plan)
