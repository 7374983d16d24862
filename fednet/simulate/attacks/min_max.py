"""Min-max and min-sum: go as far against the honest spread as the honest are from each other, and no further."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from fednet.simulate.attacks import crowd
from fednet.simulate.attacks.sight import Attack, Poison, Sight, Submission, with_deltas


class Line(NamedTuple):
    """The points mean + gamma * p: |mean + gamma * p - x_i|^2 = offset_i + 2 slope_i gamma + curvature gamma^2."""

    offset: torch.Tensor  # (n,) float64: |mean - x_i|^2
    slope: torch.Tensor  # (n,) float64: <p, mean - x_i>
    curvature: float  # |p|^2
    distances: torch.Tensor  # (n, n) float64: |x_i - x_j|^2


def min_max(name: str) -> Attack:
    """Send, from all, mean + gamma * p, p = -std of the honest, with the largest gamma for which
    max_i |mean + gamma p - x_i| <= max_ij |x_i - x_j|.

    Source: Shejwalkar, Houmansadr, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
    Federated Learning", NDSS 2021 (AGR-agnostic). The paper bisects for gamma; the condition is n quadratics in it.
    """
    return Attack(name=name, poison=_along_the_line(gamma_of_max), sees_others=True)


def min_sum(name: str) -> Attack:
    """Send the same with the largest gamma for which sum_i |mean + gamma p - x_i|^2 <= max_i sum_j |x_i - x_j|^2."""
    return Attack(name=name, poison=_along_the_line(gamma_of_sum), sees_others=True)


def gamma_of_max(line: Line) -> float:
    """Return the least of the n quadratics' upper roots: each holds from below 0 (the mean itself) to its root."""
    room = (line.distances.max() - line.offset).clamp(min=0.0)
    roots = (line.slope.square() + line.curvature * room).sqrt() - line.slope
    return float(roots.min()) / line.curvature


def gamma_of_sum(line: Line) -> float:
    """Return the upper root of the sum, in which the slopes cancel out."""
    room = (line.distances.sum(dim=1).max() - line.offset.sum()).clamp(min=0.0)
    return float((room / (len(line.offset) * line.curvature)).sqrt())


def _along_the_line(gamma_of: Callable[[Line], float]) -> Poison:
    def poison(sight: Sight) -> list[Submission]:
        mean, direction = crowd.mean(sight.known), -crowd.deviation(sight.known)
        line = _line([*sight.known, direction])
        gamma = gamma_of(line) if line.curvature > 0 else 0.0
        return with_deltas(sight.own, [mean + gamma * direction] * len(sight.own))

    return poison


def _line(rows: list[torch.Tensor]) -> Line:
    """Build it from the honest deltas and, as the last row, p."""
    gram = crowd.products(rows)
    about_mean = torch.eye(len(rows) - 1, dtype=torch.float64) - 1 / (len(rows) - 1)
    among = gram[:-1, :-1]
    return Line(
        offset=(about_mean @ among @ about_mean.T).diagonal(),
        slope=-(about_mean @ gram[:-1, -1]),
        curvature=float(gram[-1, -1]),
        distances=crowd.squared_distances(among),
    )
