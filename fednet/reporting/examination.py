"""The last look at a model: calibrated by validation, what its answers to the test set are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from fednet.errors import BadInput, ModelError
from fednet.reporting.calibration import (
    Calibration,
    answered_at,
    brier_score,
    calibrate,
    calibrated,
    expected_calibration_error,
)
from fednet.reporting.intervals import Outputs, intervals
from fednet.reporting.metrics import metrics_of

SPECIFICITY = 0.95  # at which the sensitivity for any tumour is told

Answers = tuple[torch.Tensor, torch.Tensor]
"""(logits  # (n, classes) float64, labels  # (n,) int64) on the CPU, as `reporting.metrics.logits_of` gives them."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What was found of one model; plain JSON types."""

    extra: dict[str, Any]  # for its file's `extra` facts: what `models.prediction.Rules` reads; empty: not calibrated
    calibration: dict[str, Any]  # for its card: what was `fitted` and how it does on `test`, or `why` it was not
    intervals: dict[str, Any]  # for its card; empty where its outputs are not finite


def examined(validation: Answers, test: Answers, *, classes: Sequence[str], negative: int | None) -> Examined:
    """Calibrate by `validation` alone, and say what that makes of `test`; `negative`: the class without a finding."""
    if not bool(test[0].isfinite().all()):
        return not_calibrated("its outputs for the test set are not finite")
    try:
        fitted = calibrate(*validation)
    except (BadInput, ModelError) as exc:
        return not_calibrated(str(exc))
    found = intervals(
        Outputs(
            probabilities=calibrated(test[0], 1.0), calibrated=calibrated(test[0], fitted.temperature), labels=test[1]
        ),
        classes,
        negative=negative,
        specificity=SPECIFICITY,
    )
    calibration = {"fitted": fitted.to_dict(), "test": _on_test(fitted, test, classes)}
    return Examined(
        extra=fitted.to_dict(), calibration=calibration, intervals=found.to_dict() | {"specificity": SPECIFICITY}
    )


def not_calibrated(why: str) -> Examined:
    """Return what is known of a model that could not be looked at."""
    return Examined(extra={}, calibration={"fitted": None, "why": why}, intervals={})


def _on_test(fitted: Calibration, test: Answers, classes: Sequence[str]) -> dict[str, Any]:
    logits, labels = test
    chances = calibrated(logits, fitted.temperature)
    return {
        "before": _worth(calibrated(logits, 1.0), labels, classes),
        "after": _worth(chances, labels, classes),
        "answered": asdict(answered_at(chances, labels, threshold=fitted.threshold)),
        "images": len(labels),
        "energy_above": int((-logits.logsumexp(dim=1) > fitted.max_energy).sum()),
    }


def _worth(probabilities: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return what probabilities are worth, whatever the answers that follow from them."""
    return {
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
        "loss": metrics_of(probabilities, labels, classes=classes).loss,  # as every round's is computed
    }
