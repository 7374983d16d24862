"""Rounds, and what is found of their models, as cards are made of; for tests."""

from __future__ import annotations

from typing import Any

from fednet.reporting.examination import Examined

CLASSES = ("glioma", "no_tumor")
FITTED = {"temperature": 1.5, "threshold": 0.6, "max_energy": -2.5, "images": 40}
EXAMINED = Examined(
    extra=FITTED,
    calibration={
        "fitted": FITTED,
        "test": {
            "before": {"ece": 0.125, "brier": 0.5, "loss": 1.25},
            "after": {"ece": 0.0625, "brier": 0.4, "loss": 0.75},
            "answered": {"threshold": 0.6, "images": 45, "coverage": 0.75, "accuracy": 0.96},
            "images": 60,
            "energy_above": 1,
        },
    },
    intervals={
        "accuracy": {"value": 0.8, "low": 0.68, "high": 0.88},
        "sensitivity": {"value": 0.7, "low": 0.5, "high": 0.8125},
        "per_class": {"glioma": {"recall": {"value": 0.75, "low": 0.58, "high": 0.86}}, "no_tumor": {"recall": None}},
        "resamples": 2000,
        "specificity": 0.95,
    },
)


def metrics() -> dict[str, Any]:
    """Return what a round says of a model on 60 scans."""
    return {
        "images": 60,
        "loss": 1.25,
        "accuracy": 0.8,
        "balanced_accuracy": 0.8,
        "macro_f1": 0.79,
        "macro_auc": None,
        "per_class": {
            "glioma": {"recall": 0.75, "precision": 0.8, "f1": 0.77, "auc": 0.9, "support": 36},
            "no_tumor": {"recall": 0.875, "precision": 0.8, "f1": 0.84, "auc": 0.9, "support": 24},
        },
        "confusion": [[27, 9], [3, 21]],
    }


def update(worker: str, *, reason: str = "", **more: Any) -> dict[str, Any]:
    """Return what a round says of an update: that it counted, or the reason why not."""
    weight = 0.0 if reason else 0.5
    return {"worker": worker, "selected": not reason, "reason": reason, "weight": weight, "samples": 40, **more}


def document(number: int, *updates: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a round."""
    return {"round": number, "updates": list(updates), "test": metrics(), "validation": metrics(), **more}
