"""How uncertain the figures of a test set are: 95 % intervals of one model's, and of what two models differ by.

Images count as independent of each other. Where several slices are of one patient, true intervals are wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import binomtest

from fednet.errors import BadInput
from fednet.reporting.bootstrap import LEVEL, RESAMPLES, Figures, Floats, Ranking, bounds_of
from fednet.reporting.calibration import BINS, bin_of, brier_terms

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What one model says of the images that it is judged on; all finite."""

    probabilities: torch.Tensor  # (n, classes) float64, as the network gives them
    calibrated: torch.Tensor  # (n, classes) float64, after the temperature
    labels: torch.Tensor  # (n,) int64


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ClassIntervals:
    """One class against the rest; None where the data has none of it, or the model never says it."""

    recall: Interval | None
    precision: Interval | None
    f1: Interval | None
    auc: Interval | None


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """The intervals of one model's figures on one data set."""

    accuracy: Interval
    balanced_accuracy: Interval
    macro_f1: Interval
    macro_auc: Interval | None
    ece: Interval
    brier: Interval
    sensitivity: Interval | None  # of any tumour, at the specificity asked for; None where one side is missing
    per_class: dict[str, ClassIntervals]
    resamples: int
    level: float = LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The second model's figure less the first's, on the same images."""

    accuracy: Interval
    macro_f1: Interval


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """The images that one of two models answers rightly and the other does not."""

    only_first: int
    only_second: int
    p_value: float  # McNemar's exact test (1947): two-sided, that either is as likely to be right


def intervals(
    outputs: Outputs, classes: Sequence[str], *, negative: int | None, specificity: float, resamples: int = RESAMPLES
) -> Intervals:
    """Return all intervals; `negative` is the class without a finding, for the sensitivity.

    Accuracy, recall and precision are shares of a count: Wilson's (1927) interval, which does not claim certainty where
    a share is 0 or 1. All others: the stratified bootstrap's percentiles; the ECE's turned round its value (the basic
    bootstrap), because resampling adds to it what it adds to noise.
    """
    measured = _Measured(outputs, negative=negative, specificity=specificity)
    values = {name: found[0] for name, found in measured.figures(np.ones((1, len(measured.truth)))).items()}
    lows, highs = bounds_of(measured.figures, measured.truth, resamples=resamples)
    ece = float(values["ece"])
    lows["ece"], highs["ece"] = np.maximum(2 * ece - highs["ece"], 0.0), np.maximum(2 * ece - lows["ece"], 0.0)
    confusion = measured.confusion

    def interval(name: str, *place: int) -> Interval | None:
        ends = (float(each[name][place]) for each in (values, lows, highs))
        value, low, high = ends
        return None if np.isnan(value) else Interval(value=value, low=low, high=high)

    return Intervals(
        accuracy=_known(wilson(int(confusion.trace()), int(confusion.sum()))),
        balanced_accuracy=_known(interval("balanced_accuracy")),
        macro_f1=_known(interval("macro_f1")),
        macro_auc=interval("macro_auc"),
        ece=_known(interval("ece")),
        brier=_known(interval("brier")),
        sensitivity=interval("sensitivity"),
        per_class={
            name: ClassIntervals(
                recall=wilson(int(confusion[i, i]), int(confusion[i].sum())),
                precision=wilson(int(confusion[i, i]), int(confusion[:, i].sum())),
                f1=interval("f1", i),
                auc=interval("auc", i),
            )
            for i, name in enumerate(classes)
        },
        resamples=resamples,
    )


def wilson(right: int, of: int) -> Interval | None:
    """Return a share and Wilson's score interval of it; None of nothing."""
    if of == 0:
        return None
    ends = binomtest(right, of).proportion_ci(confidence_level=LEVEL, method="wilson")
    return Interval(value=right / of, low=float(ends.low), high=float(ends.high))


def difference(first: Outputs, second: Outputs, *, resamples: int = RESAMPLES) -> Difference:
    """Return how much better the second is, by resamples that are the same for both; raises `BadInput`."""
    truth = _same_images(first, second)
    cells = [_cells(truth, _answers(each), each.probabilities.shape[1]) for each in (first, second)]

    def figures(weights: Floats) -> Figures:
        old, new = (_of_confusions(_confusions(weights, each)) for each in cells)
        return {name: new[name] - old[name] for name in ("accuracy", "macro_f1")}

    values = figures(np.ones((1, len(truth))))
    lows, highs = bounds_of(figures, truth, resamples=resamples)
    found = {
        name: Interval(value=float(values[name][0]), low=float(lows[name]), high=float(highs[name])) for name in values
    }
    return Difference(accuracy=found["accuracy"], macro_f1=found["macro_f1"])


def disagreement(first: Outputs, second: Outputs) -> Disagreement:
    """Return McNemar's exact test of two models on the same images; raises `BadInput`."""
    truth = _same_images(first, second)
    is_right = [_answers(each) == truth for each in (first, second)]
    only_first = int((is_right[0] & ~is_right[1]).sum())
    only_second = int((is_right[1] & ~is_right[0]).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
    return Disagreement(only_first=only_first, only_second=only_second, p_value=p_value)


class _Measured:
    """One model's outputs, ready to be measured under many weightings of the images."""

    def __init__(self, outputs: Outputs, *, negative: int | None, specificity: float) -> None:
        chances, believed = outputs.probabilities.numpy(), outputs.calibrated.numpy()
        self.truth: Labels = outputs.labels.numpy()
        classes = chances.shape[1]
        self._cells = _cells(self.truth, _answers(outputs), classes)
        self.confusion = _confusions(np.ones((1, len(self.truth))), self._cells)[0]
        self._rankings = [Ranking(chances[:, label], self.truth == label) for label in range(classes)]
        self._findings = None if negative is None else Ranking(1 - believed[:, negative], self.truth != negative)
        self._specificity = specificity
        confidence = believed.max(axis=1)
        too_sure = confidence - (believed.argmax(axis=1) == self.truth)
        self._gaps = np.eye(BINS)[bin_of(confidence)] * too_sure[:, None]  # (n, bins)
        self._brier = brier_terms(outputs.calibrated, outputs.labels)

    def figures(self, weights: Floats) -> Figures:
        """Return all figures under weights  # (resamples, n); NaN where not defined."""
        aucs = np.stack([each.auc(weights) for each in self._rankings], axis=1)
        is_known = ~np.isnan(aucs)
        known = is_known.sum(axis=1)
        total = weights.sum(axis=1)
        findings = self._findings
        return _of_confusions(_confusions(weights, self._cells)) | {
            "auc": aucs,
            "macro_auc": np.where(known > 0, np.nansum(aucs, axis=1) / np.maximum(known, 1), np.nan),
            "ece": np.abs(weights @ self._gaps).sum(axis=1) / total,
            "brier": weights @ self._brier / total,
            "sensitivity": np.full(len(weights), np.nan)
            if findings is None
            else findings.sensitivity(weights, specificity=self._specificity),
        }


def _answers(outputs: Outputs) -> Labels:
    return np.asarray(outputs.probabilities.numpy().argmax(axis=1), dtype=np.int64)


def _cells(truth: Labels, answers: Labels, classes: int) -> Floats:
    """Return each image's place in the confusion matrix  # (n, classes * classes), one-hot."""
    return np.asarray(np.eye(classes * classes)[truth * classes + answers], dtype=np.float64)


def _confusions(weights: Floats, cells: Floats) -> Floats:
    classes = int(np.sqrt(cells.shape[1]))
    return (weights @ cells).reshape(-1, classes, classes)


def _of_confusions(confusions: Floats) -> Figures:
    """Return figures of confusion matrices  # (resamples, true, predicted), as `Metrics` has them."""
    right = np.diagonal(confusions, axis1=1, axis2=2)
    support, said = confusions.sum(axis=2), confusions.sum(axis=1)
    is_present = support > 0
    present = is_present.sum(axis=1)
    recall = right / np.where(is_present, support, np.nan)
    f1 = np.where(is_present, 2 * right / np.maximum(support + said, 1.0), np.nan)
    return {
        "accuracy": right.sum(axis=1) / support.sum(axis=1),
        "balanced_accuracy": np.nansum(recall, axis=1) / present,
        "f1": f1,
        "macro_f1": np.nansum(f1, axis=1) / present,
    }


def _same_images(first: Outputs, second: Outputs) -> Labels:
    if not torch.equal(first.labels, second.labels):
        raise BadInput(
            "two models compared",
            found=f"answers to {len(first.labels)} and {len(second.labels)} images that are not the same",
            expected="the same images for both",
        )
    return np.asarray(first.labels.numpy(), dtype=np.int64)


def _known(interval: Interval | None) -> Interval:
    assert interval is not None, "data without an image"
    return interval
