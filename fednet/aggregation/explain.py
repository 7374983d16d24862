"""Why an update was not selected, in a sentence that a hospital understands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Plan


@dataclass(frozen=True)
class Findings:
    """What a round's verdicts are made from; all of the updates that were scored."""

    geometry: Geometry
    norms: torch.Tensor  # (n,) float64
    plan: Plan
    selected: Sequence[int]
    shares: torch.Tensor  # (n,) float64
    tells_of_others: bool = True  # whether a verdict may hold what follows from the other updates' values

    @property
    def cut(self) -> float | None:
        """Return the worst score that was selected, of a rule that ranks."""
        scores = self.plan.scores
        return None if scores is None or not self.selected else float(scores[list(self.selected)].max())

    def score(self, position: int) -> float | None:
        """Return an update's score, of a rule that ranks."""
        return None if self.plan.scores is None else float(self.plan.scores[position])

    def cosine(self, position: int) -> float | None:
        """Return the cosine of one update to the mean of the selected; None where one of them is 0."""
        mean_norm, to_mean = self._mean
        scale = float(self.norms[position]) * mean_norm
        return None if scale == 0 else max(-1.0, min(1.0, float(to_mean[position]) / scale))

    @cached_property
    def _mean(self) -> tuple[float, torch.Tensor]:
        """Return (norm of the selected's mean, products of all updates with it  # (n,))."""
        kept = list(self.selected)
        if not kept:
            return 0.0, torch.zeros_like(self.norms)
        products = self.geometry.products()[:, kept].mean(dim=1)
        return math.sqrt(max(0.0, float(products[kept].mean()))), products


def twins(findings: Findings, names: Sequence[str], byzantine: int) -> str:
    """Return who sent the same update as others, or nothing: training on different scans never gives that.

    More than f of them are beyond what any rule promises; updates of norm 0 are no sign of anything.
    """
    same = (findings.geometry.squared_distances() == 0) & (findings.norms > 0)
    groups = {tuple(torch.nonzero(row).flatten().tolist()) for row in same}
    notes = []
    for group in sorted(group for group in groups if len(group) > 1):
        beyond = f": more than f = {byzantine}, beyond the guarantee of any rule" if len(group) > byzantine else ""
        notes.append(f"{', '.join(names[index] for index in group)} sent the same update{beyond}")
    return "; ".join(notes)


def rejection(position: int, findings: Findings) -> str:
    """Return why this update was not selected."""
    if not findings.tells_of_others:
        return "rejected: others lie nearer to each other (how far is not told: differential privacy)"
    if not findings.selected:
        return "rejected: no update agrees with the coordinator's own, so nobody's counts"
    cut, own = findings.cut, findings.score(position)
    if own is not None and own == cut:
        return "rejected: its score equals that of the last one selected, and ties go by worker name"
    kept = list(findings.selected)
    sentence = f"rejected: its update {_size(float(findings.norms[position]), float(findings.norms[kept].median()))}"
    cosine = findings.cosine(position)
    if cosine is not None:
        direction = "points away from" if cosine < 0 else "agrees little with" if cosine < 0.5 else "agrees with"
        sentence += f" and {direction} them (cosine {cosine:.2f})"
    if own is not None and cut:
        sentence += f"; its score is {own / cut:.3g} times that of the last one selected"
    return sentence


def _size(norm: float, typical: float) -> str:
    if typical == 0:
        return "changes the model, the selected ones do not"
    return f"is {norm / typical:.2g} times as large as the selected ones"
