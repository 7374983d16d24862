"""The bootstrap: a figure computed on resampled images, all resamples at once, as weights of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

Floats = npt.NDArray[np.float64]
Figures = dict[str, Floats]  # by name, of every resample: (resamples,) or (resamples, classes)

RESAMPLES = 2000  # ends of 95 % intervals then scatter by some hundredths of their length
FEWEST_RESAMPLES = 100  # of fewer, a 95 % interval would hang on the two or three outermost
LEVEL = 0.95
_SEED = 0  # the same figures for the same outputs, and the same resamples for both of two models
_BLOCK = 2**20  # weights at once: 8 MiB, some of which are copied


def bounds_of(
    figures: Callable[[Floats], Figures], labels: npt.NDArray[np.int64], *, resamples: int
) -> tuple[Figures, Figures]:
    """Return the lower and upper ends of the percentile intervals (Efron, 1979) of `figures`, which takes weights.

    NaN where a figure is not defined.
    """
    blocks = [figures(weights) for weights in weights_of_resamples(labels, resamples)]
    drawn = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    quantiles = {name: np.quantile(values, ends, axis=0) for name, values in drawn.items()}
    return {name: low for name, (low, _) in quantiles.items()}, {name: high for name, (_, high) in quantiles.items()}


def weights_of_resamples(labels: npt.NDArray[np.int64], resamples: int) -> Iterator[Floats]:
    """Yield how often each image occurs in each resample  # (some, n), `resamples` rows in all.

    Images are drawn anew within each class: how many there are of each was chosen by whoever collected them, so that it
    is no chance that an interval should show, and every resample has every class.
    """
    rng = np.random.default_rng(_SEED)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rows = max(1, _BLOCK // len(labels))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = np.concatenate([each[rng.integers(0, len(each), (count, len(each)))] for each in members], axis=1)
        places = drawn + np.arange(count)[:, None] * len(labels)
        yield np.bincount(places.ravel(), minlength=count * len(labels)).reshape(count, -1).astype(np.float64)


class Ranking:
    """Positives and negatives by a score: their ROC curve under weights; of equal scores none comes first."""

    def __init__(self, scores: Floats, is_positive: npt.NDArray[np.bool_]) -> None:
        """scores, is_positive  # (n,)."""
        self._order = np.argsort(-scores, kind="stable")
        descending = scores[self._order]
        self._last_of_equals = np.flatnonzero(np.append(descending[1:] < descending[:-1], True))
        self._is_positive = is_positive[self._order]

    def auc(self, weights: Floats) -> Floats:
        """Return the area under the curve  # (resamples,) for weights  # (resamples, n); NaN without either kind."""
        positives, negatives = self._curve(weights)
        area = trapezoid(positives, negatives, axis=1)
        return np.asarray(area / _or_nan(positives[:, -1] * negatives[:, -1]), dtype=np.float64)

    def sensitivity(self, weights: Floats, *, specificity: float) -> Floats:
        """Return the largest share of positives above a score below which at least `specificity` of negatives lie."""
        positives, negatives = self._curve(weights)
        is_allowed = negatives <= (1 - specificity) * negatives[:, -1:] + 1e-9
        best = np.where(is_allowed, positives, 0.0).max(axis=1)
        return np.asarray(np.where(negatives[:, -1] > 0, best, np.nan) / _or_nan(positives[:, -1]), dtype=np.float64)

    def _curve(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the summed weight of positives, and of negatives, down to each distinct score; 0 first."""
        ordered = weights[:, self._order]
        down_to = [np.cumsum(ordered * kind, axis=1) for kind in (self._is_positive, ~self._is_positive)]
        positives, negatives = (np.pad(each[:, self._last_of_equals], ((0, 0), (1, 0))) for each in down_to)
        return positives, negatives


def _or_nan(values: Floats) -> Floats:
    return np.where(values > 0, values, np.nan)
