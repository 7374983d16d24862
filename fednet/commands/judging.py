"""Judges saved models on one folder of scans: figures, intervals, calibration, operating point, differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.cache import CachePlace
from data.classes import NO_FINDING
from data.loaders import ScanLoader
from fednet.commands import wiring
from fednet.errors import BadInput
from fednet.reporting.calibration import (
    Answered,
    answered_at,
    brier_score,
    calibrate,
    calibrated,
    error_by_chance,
    expected_calibration_error,
    reliability,
)
from fednet.reporting.intervals import Difference, Disagreement, Intervals, Outputs, difference, disagreement, intervals
from fednet.reporting.metrics import Metrics, logits_of, metrics_of
from fednet.reporting.screening import OperatingPoint, screen_of
from models.checkpoint import Checkpoint, CheckpointFacts
from models.prediction import Rules, rules_of

Notice = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Screening:
    """Any tumour against none, by calibrated probabilities."""

    auc: float
    specificity: float  # that was asked for
    own: OperatingPoint  # chosen on the judged images themselves: what their ROC curve holds
    fixed: OperatingPoint | None  # chosen on validation: what to expect elsewhere


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One model and all that was found out about it."""

    path: Path
    facts: CheckpointFacts
    metrics: Metrics  # by the probabilities that the network gives, as every round's
    outputs: Outputs
    rules: Rules
    rules_from: str  # validation, checkpoint or none
    strange: int  # images whose energy is above the rules' limit
    screening: Screening | None  # None where one side is missing
    intervals: Intervals | None  # None where none were asked for

    @property
    def answered(self) -> Answered:
        """Return what abstaining below the rules' threshold leaves."""
        return answered_at(self.outputs.calibrated, self.outputs.labels, threshold=self.rules.threshold)

    def calibration(self) -> dict[str, Any]:
        """Return loss, ECE, Brier score and reliability before and after the temperature, as plain JSON types."""
        labels, classes = self.outputs.labels, self.facts.classes
        sides = {"before": self.outputs.probabilities, "after": self.outputs.calibrated}
        return {
            "from": self.rules_from,
            "temperature": self.rules.temperature,
            "loss": {name: metrics_of(each, labels, classes=classes).loss for name, each in sides.items()},
            "ece": {name: expected_calibration_error(each, labels) for name, each in sides.items()},
            "ece_by_chance": {name: error_by_chance(each) for name, each in sides.items()},
            "brier": {name: brier_score(each, labels) for name, each in sides.items()},
            "reliability": {name: asdict(reliability(each, labels)) for name, each in sides.items()},
            "answered": asdict(self.answered),
            "above_max_energy": self.strange / len(labels),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; the keys of `Metrics` stand beside the others."""
        described = {"model": str(self.path), "architecture": self.facts.model, "round": self.facts.round}
        return (
            described
            | self.metrics.to_dict()
            | {
                "calibration": self.calibration(),
                "tumour": None if self.screening is None else asdict(self.screening),
                "intervals": None if self.intervals is None else self.intervals.to_dict(),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A model beside the first one, on the same images."""

    first: Path
    second: Path
    disagreement: Disagreement
    difference: Difference | None  # None where no intervals were asked for

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"first": str(self.first), "second": str(self.second)}


@dataclass(frozen=True)
class _Belief:
    """What is done to a model's logits."""

    rules: Rules
    rules_from: str
    call_at: float | None  # the score of the specificity asked for, chosen on validation


class Judge:
    """A folder of scans that models are judged on, and perhaps one that they are calibrated by."""

    def __init__(
        self,
        data: Path,
        *,
        validation: Path | None,
        device: torch.device,
        max_bad_files: float,
        specificity: float,
        resamples: int,
        notice: Notice,
        cache: CachePlace,
    ) -> None:
        """Raises `BadInput` where both are one folder: what is judged on may choose nothing."""
        if validation is not None and validation.resolve() == data.resolve():
            raise BadInput(
                f"--validation {validation}",
                found="the folder of --data",
                expected="other scans: those that a model is judged on choose nothing",
                todo="give the split's server_data/validation, or leave it out",
            )
        self._data, self._validation = data, validation
        self._device, self._max_bad_files, self._notice, self._cache = device, max_bad_files, notice, cache
        self._specificity, self._resamples = specificity, resamples
        self._loaded: dict[tuple[Path, int], ScanLoader] = {}
        self.warnings: list[str] = []

    def judge(self, path: Path) -> Judged:
        """Return what is found out about a checkpoint; raises `ModelError`, `DataError`, `BadInput`."""
        saved = wiring.load_classifier(path)
        network, size, classes = saved.build().to(self._device), saved.facts.image_size, saved.facts.classes
        negative = classes.index(NO_FINDING) if NO_FINDING in classes else None
        logits, labels = logits_of(network, self._scans(self._data, size))
        if broken := int((~logits.isfinite()).any(dim=1).sum()):
            self._warn(f"{path}: {broken} of {len(labels)} outputs are not finite: they count as {classes[0]}")
        belief = self._belief(saved, network, negative)
        outputs = Outputs(
            probabilities=_settled(logits.softmax(dim=1)),
            calibrated=_settled(calibrated(logits, belief.rules.temperature)),
            labels=labels,
        )
        found = None
        if self._resamples:
            found = intervals(
                outputs, classes, negative=negative, specificity=self._specificity, resamples=self._resamples
            )
        return Judged(
            path=path,
            facts=saved.facts,
            metrics=metrics_of(outputs.probabilities, labels, classes=classes),
            outputs=outputs,
            rules=belief.rules,
            rules_from=belief.rules_from,
            strange=int((-logits.logsumexp(dim=1) > belief.rules.max_energy).sum()),
            screening=None if negative is None else self._screening(outputs, negative, belief.call_at),
            intervals=found,
        )

    def compare(self, first: Judged, second: Judged) -> Compared:
        """Return how the second differs from the first; raises `BadInput` where their classes or images differ."""
        if first.facts.classes != second.facts.classes:
            raise BadInput(
                f"--model {second.path}",
                found=f"classes {', '.join(second.facts.classes)}",
                expected=f"those of {first.path}: {', '.join(first.facts.classes)}",
            )
        return Compared(
            first=first.path,
            second=second.path,
            disagreement=disagreement(first.outputs, second.outputs),
            difference=difference(first.outputs, second.outputs, resamples=self._resamples)
            if self._resamples
            else None,
        )

    def _belief(self, saved: Checkpoint, network: nn.Module, negative: int | None) -> _Belief:
        """Return what is done to the logits: fitted on validation, else the checkpoint's own."""
        extra = saved.facts.extra
        if self._validation is None:
            return _Belief(rules_of(extra), "checkpoint" if "temperature" in extra else "none", None)
        self._warn_of_shared(saved.facts.image_size)
        logits, labels = logits_of(network, self._scans(self._validation, saved.facts.image_size))
        rules = rules_of(calibrate(logits, labels).to_dict())
        if negative is None:
            return _Belief(rules, "validation", None)
        screen = screen_of(calibrated(logits, rules.temperature), labels, negative=negative)
        return _Belief(rules, "validation", screen.threshold(specificity=self._specificity))

    def _screening(self, outputs: Outputs, negative: int, call_at: float | None) -> Screening | None:
        screen = screen_of(outputs.calibrated, outputs.labels, negative=negative)
        auc, own = screen.auc, screen.threshold(specificity=self._specificity)
        if auc is None or own is None:
            return None
        fixed = None if call_at is None else screen.at(call_at)
        return Screening(auc=auc, specificity=self._specificity, own=screen.at(own), fixed=fixed)

    def _scans(self, folder: Path, size: int) -> ScanLoader:
        if (folder, size) not in self._loaded:
            scans = wiring.load_scans(
                folder, image_size=size, max_bad_files=self._max_bad_files, notice=self._notice, cache=self._cache
            )
            self._loaded[folder, size] = ScanLoader(scans, self._device)
        return self._loaded[folder, size]

    def _warn_of_shared(self, size: int) -> None:
        """Say how many images of --data are in --validation too, pixel by pixel."""
        assert self._validation is not None
        judged, held_out = _pixels(self._scans(self._data, size)), set(_pixels(self._scans(self._validation, size)))
        if shared := sum(each in held_out for each in judged):
            self._warn(f"{shared} of {len(judged)} images of {self._data} are in {self._validation} too")

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def _pixels(scans: ScanLoader) -> list[bytes]:
    return [each.numpy().tobytes() for each in scans.scans.images]


def _settled(probabilities: torch.Tensor) -> torch.Tensor:
    """Return probabilities with 0 for what is no number, as `metrics_of` takes it."""
    return torch.nan_to_num(probabilities, nan=0.0)
