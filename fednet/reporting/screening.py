"""Any tumour against none: where a threshold lies for a specificity, and what both kinds of error come to there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from fednet.reporting.intervals import Interval, wilson

_ROUNDING = 1e-9  # 1 - 0.9 is a little less than a tenth


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Images by their score, 1 - P(no finding), and whether there is a finding."""

    scores: npt.NDArray[np.float64]
    has_finding: npt.NDArray[np.bool_]

    @property
    def auc(self) -> float | None:
        """Return the area under the ROC curve; None where one of the two kinds is missing."""
        if self.has_finding.all() or not self.has_finding.any():
            return None
        return float(roc_auc_score(self.has_finding, self.scores))

    def threshold(self, *, specificity: float) -> float | None:
        """Return the score at and above which a scan is called, so that this share of those without finding is not.

        Of all such scores the one that calls most findings, and the highest of these; above every score where each of
        them calls too many. None where one of the two kinds is missing.
        """
        if self.auc is None:
            return None
        false, true, thresholds = roc_curve(self.has_finding, self.scores, drop_intermediate=False)
        allowed = np.flatnonzero(false <= 1 - specificity + _ROUNDING)
        chosen = float(thresholds[allowed[true[allowed].argmax()]])
        return chosen if np.isfinite(chosen) else float(np.nextafter(self.scores.max(), np.inf))

    def at(self, threshold: float) -> OperatingPoint:
        """Return what calling every scan with this score or more comes to."""
        is_called = self.scores >= threshold
        found, clear = is_called[self.has_finding], ~is_called[~self.has_finding]
        return OperatingPoint(
            threshold=threshold,
            sensitivity=wilson(int(found.sum()), len(found)),
            specificity=wilson(int(clear.sum()), len(clear)),
        )


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold and what it comes to, with Wilson's intervals for a threshold that these images did not choose."""

    threshold: float
    sensitivity: Interval | None  # share of findings that are called
    specificity: Interval | None  # share of the others that are not


def screen_of(probabilities: torch.Tensor, labels: torch.Tensor, *, negative: int) -> Screen:
    """Return the screen of probabilities  # (n, classes), labels  # (n,); `negative` is the class without a finding."""
    chance = probabilities[:, negative].double().numpy()
    return Screen(scores=1 - chance, has_finding=labels.numpy() != negative)
