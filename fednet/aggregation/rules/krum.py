"""Krum: s(i) = sum of the n - f - 2 smallest |x_i - x_j|^2 over j != i; the update of the least score is the step.

Source: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
Descent", NeurIPS 2017. Condition: n >= 2f + 3. With f = 0 it is defined from n = 3 on (n - 2 >= 1 neighbours); one or
two updates have no neighbours to count, so all scores are 0 and the first by name is taken.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Plan, Rule
from fednet.config import fewest_updates


def krum_scores(distances: torch.Tensor, byzantine: int) -> torch.Tensor:
    """Return every update's score  # (n,) float64 from squared distances  # (n, n).

    An update is left out of its own neighbours by index: never as "the smallest", which a twin's distance equals.
    """
    count = distances.shape[0]
    neighbours = max(0, count - byzantine - 2)
    off_diagonal = ~torch.eye(count, dtype=torch.bool)
    others = distances[off_diagonal].view(count, max(0, count - 1))
    return others.sort(dim=1).values[:, :neighbours].sum(dim=1)


def ranking(scores: torch.Tensor) -> list[int]:
    """Return the updates' indices by ascending score; ties go to the lower index."""
    return torch.sort(scores, stable=True).indices.tolist()


def _plan(geometry: Geometry, context: Context) -> Plan:
    scores = krum_scores(geometry.squared_distances(), context.byzantine)
    best = ranking(scores)[0]
    weights = torch.zeros(1, geometry.count, dtype=torch.float64)
    weights[0, best] = 1.0
    return Plan(weights=weights, selected=(best,), scores=scores)


def krum() -> Rule:
    """Return the rule."""
    return Rule(name="krum", needs=fewest_updates, plan=_plan)
