"""Coordinate-wise median: each coordinate of the step is the median of that coordinate of all updates.

Source: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
ICML 2018. Condition: n >= 2f + 1. Of an even number it is the mean of the two in the middle.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.ordered import sorted_columns
from fednet.aggregation.rules.rule import Context, Plan, Rule, more_than_half


def median_of(block: torch.Tensor) -> torch.Tensor:
    """Return every column's median  # (width,) of a block  # (m, width)."""
    rows = sorted_columns(block)
    return (rows[(len(rows) - 1) // 2] + rows[len(rows) // 2]) / 2


def _plan(geometry: Geometry, context: Context) -> Plan:
    return Plan(weights=torch.eye(geometry.count, dtype=torch.float64), reduce=median_of)


def coordinate_median() -> Rule:
    """Return the rule."""
    return Rule(name="median", needs=more_than_half, plan=_plan)
