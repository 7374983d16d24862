"""Bulyan: Krum chooses n - 2f updates one by one; of these, in each coordinate, the values nearest the median count.

theta = n - 2f updates are selected by repeated Krum, each winner removed before the next; the step's coordinate is the
mean of the beta = theta - 2f values nearest to the coordinate's median. Source: El Mhamdi, Guerraoui, Rouault, "The
Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018. Condition: n >= 4f + 3.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.krum import krum_scores, ranking
from fednet.aggregation.rules.ordered import sorted_columns
from fednet.aggregation.rules.rule import Context, Plan, Rule


def repeated_krum(distances: torch.Tensor, byzantine: int, *, rounds: int) -> list[int]:
    """Return `rounds` updates in the order in which Krum chooses them, each from those that are left."""
    left = list(range(len(distances)))
    chosen = []
    for _ in range(rounds):
        best = ranking(krum_scores(distances[left][:, left], byzantine))[0]
        chosen.append(left.pop(best))
    return chosen


def nearest_to_median(block: torch.Tensor, *, count: int) -> torch.Tensor:
    """Return every column's mean  # (width,) of the `count` values nearest to its median.

    Of a sorted column these are neighbours: every run of `count` is tried, the one that reaches least far is taken,
    the lower one of equals.
    """
    rows = sorted_columns(block)
    median = (rows[(len(rows) - 1) // 2] + rows[len(rows) // 2]) / 2
    total = torch.stack(rows[:count]).sum(dim=0)
    best, reach = total.clone(), torch.maximum(median - rows[0], rows[count - 1] - median)
    for start in range(1, len(rows) - count + 1):
        total = torch.stack(rows[start : start + count]).sum(dim=0)
        further = torch.maximum(median - rows[start], rows[start + count - 1] - median)
        best, reach = torch.where(further < reach, total, best), torch.minimum(further, reach)
    return best / count


def _plan(geometry: Geometry, context: Context) -> Plan:
    byzantine = context.byzantine
    theta = geometry.count - 2 * byzantine
    selected = repeated_krum(geometry.squared_distances(), byzantine, rounds=theta)
    return Plan(
        weights=torch.eye(geometry.count, dtype=torch.float64)[selected],
        reduce=lambda block: nearest_to_median(block, count=theta - 2 * byzantine),
        selected=tuple(selected),
    )


def bulyan() -> Rule:
    """Return the rule."""
    return Rule(name="bulyan", needs=lambda byzantine: 4 * byzantine + 3, plan=_plan)
