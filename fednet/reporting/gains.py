"""What a site gains from joining: the scores of its models on the same scans, and what they differ by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from fednet.reporting.bootstrap import RESAMPLES
from fednet.reporting.intervals import Interval, Outputs, difference
from fednet.reporting.metrics import metrics_of

ALONE, GLOBAL, TUNED, OWN = "alone", "global", "tuned", "own"
"""The site's data by itself; the federation's model; that one tuned to the site; what the site trained last in it."""

GAINS = {"global_less_alone": (ALONE, GLOBAL), "tuned_less_global": (GLOBAL, TUNED)}
FIGURES = ("accuracy", "macro_f1")
FEWEST_OF_A_CLASS = 5  # of fewer, a single scan moves the class's recall by more than 20 points


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How good one model is."""

    accuracy: float
    macro_f1: float | None  # None where a class has too few scans to say


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What one model is better by than another, on the same scans."""

    accuracy: Interval
    macro_f1: Interval | None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A site's models on the same scans."""

    images: int
    scores: dict[str, Scores]  # by ALONE, GLOBAL, TUNED, and OWN where there is one
    gains: dict[str, Gain]  # by the names of GAINS


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Means over sites, every site counting alike; of each figure over the sites where it is known."""

    sites: dict[str, int]  # how many these are, by figure
    scores: dict[str, dict[str, float | None]]  # by model, then figure
    gains: dict[str, dict[str, float | None]]


def thin_classes(labels: torch.Tensor, present: Sequence[int]) -> list[int]:
    """Return the classes of which `labels`  # (n,) int64 holds too few: those that `present` counts any scan of."""
    counts = torch.bincount(labels, minlength=len(present)).tolist()
    return [label for label, there in enumerate(present) if there and counts[label] < FEWEST_OF_A_CLASS]


def standing(
    outputs: Mapping[str, Outputs], *, classes: Sequence[str], present: Sequence[int], resamples: int = RESAMPLES
) -> Standing:
    """Return how models stand on the scans that `outputs` are about, the same for all.

    `present`: scans of each class where these come from. Of classes that it has none of, macro F1 is silent; where one
    of the others is thin there is no macro F1.
    """
    labels = outputs[GLOBAL].labels
    is_macro_known = not thin_classes(labels, present)

    def scores(of: Outputs) -> Scores:
        found = metrics_of(of.probabilities, of.labels, classes=classes)
        return Scores(accuracy=found.accuracy, macro_f1=found.macro_f1 if is_macro_known else None)

    def gain(first: Outputs, second: Outputs) -> Gain:
        found = difference(first, second, resamples=resamples)
        return Gain(accuracy=found.accuracy, macro_f1=found.macro_f1 if is_macro_known else None)

    return Standing(
        images=len(labels),
        scores={kind: scores(each) for kind, each in outputs.items()},
        gains={name: gain(outputs[first], outputs[second]) for name, (first, second) in GAINS.items()},
    )


def mean_of(standings: Sequence[Standing]) -> Mean | None:
    """Return the means over sites, all with the same models; None of no site."""
    if not standings:
        return None

    def scores(kind: str, figure: str) -> list[float | None]:
        return [getattr(each.scores[kind], figure) for each in standings]

    def gains(name: str, figure: str) -> list[float | None]:
        found: list[Interval | None] = [getattr(each.gains[name], figure) for each in standings]
        return [None if each is None else each.value for each in found]

    return Mean(
        sites={figure: len(_known(scores(GLOBAL, figure))) for figure in FIGURES},
        scores={kind: {each: _mean(scores(kind, each)) for each in FIGURES} for kind in standings[0].scores},
        gains={name: {each: _mean(gains(name, each)) for each in FIGURES} for name in GAINS},
    )


def _mean(values: Iterable[float | None]) -> float | None:
    return fmean(known) if (known := _known(values)) else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [each for each in values if each is not None]
