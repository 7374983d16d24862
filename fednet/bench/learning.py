"""What federation costs in accuracy: the same scans, epochs and code, pooled in one place or spread over hospitals."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fednet.errors import BadInput
from fednet.reporting.intervals import Interval, Outputs, difference
from fednet.storage.atomic import write_json

CENTRALISED = "centralised"


@dataclass(frozen=True)
class Setting:
    """How the training scans are spread: over so many hospitals, how unlike each other, and who attacks."""

    name: str
    workers: int
    scheme: str = "iid"
    alpha: float = 1.0
    attack: str | None = None


SETTINGS = (
    Setting(CENTRALISED, 1),
    Setting("4 sites, i.i.d.", 4),
    Setting("4 sites, Dirichlet 0.5", 4, "dirichlet", 0.5),
    Setting("8 sites, Dirichlet 0.3", 8, "dirichlet", 0.3),
)


def attacked(attack: str) -> Setting:
    """Return the last setting with some of its hospitals malicious."""
    last = SETTINGS[-1]
    return Setting(f"{last.name}, {attack}", last.workers, last.scheme, last.alpha, attack)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What became of one setting with one seed, judged after the last round."""

    accuracy: list[float]  # after each round
    macro_f1: float
    answers: list[int]  # to each test image
    labels: list[int]
    classes: int
    honest_rejected: int  # updates, over all rounds
    attackers_selected: int
    seconds: float
    epsilon: float | None = None  # the most that a hospital has spent of its own privacy; None: it keeps none


@dataclass(frozen=True, kw_only=True)
class Line:
    """One setting over all seeds, beside the centralised one on the same test images."""

    setting: str
    seeds: int
    accuracy: float
    accuracies: list[float]  # of each seed
    macro_f1: float
    behind: Interval | None  # in accuracy, less than centralised: negative; paired
    behind_by_seed: list[float]
    of_pooled: float | None  # accuracy over the centralised one's
    honest_rejected: int
    attackers_selected: int
    epsilon: float | None = None  # the most that a hospital has spent in a run; None: none keeps any privacy


class LearnedFolder:
    """Results by setting and seed, so that a bench that was stopped goes on; those of other options are refused."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        """Raises `BadInput` where the folder holds results of other options."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "options.json"
        if path.exists() and json.loads(path.read_text()) != options:
            raise BadInput(f"--out {folder}", found="results of other options", todo="choose another folder")
        write_json(path, options)

    def find(self, setting: Setting, seed: int) -> Learned | None:
        """Return what an earlier run found, or None."""
        path = self._path(setting, seed)
        return Learned(**json.loads(path.read_text())) if path.exists() else None

    def get(self, setting: Setting, seed: int) -> Learned:
        """Return what was found."""
        found = self.find(setting, seed)
        assert found is not None, "trained before it is asked for"
        return found

    def keep(self, setting: Setting, seed: int, learned: Learned) -> None:
        """Write one result."""
        write_json(self._path(setting, seed), asdict(learned))

    def model_path(self, setting: Setting, seed: int) -> Path:
        """Return where the last round's model is, as a checkpoint."""
        return self._path(setting, seed).with_suffix(".pth")

    def _path(self, setting: Setting, seed: int) -> Path:
        plain = "".join(c if c.isalnum() else "-" for c in setting.name)
        return self._folder / f"{plain}-seed{seed}.json"


def line_of(setting: Setting, found: Sequence[Learned], pooled: Sequence[Learned | None]) -> Line:
    """Return the figures of a setting; `found` and `pooled` (centralised) are of the same seeds, in order.

    What it is behind is told where every seed has both: the mean over seeds, with the mean of their intervals, which
    are the paired bootstrap's. Seeds share test images, so that more seeds make it no narrower; how much trainings
    differ is not in it, but in the seeds' own figures.
    """
    accuracies = [each.accuracy[-1] for each in found]
    bases = [each for each in pooled if each is not None]
    has_bases = len(bases) == len(found)
    apart = [difference(_outputs(base), _outputs(own)).accuracy for base, own in zip(bases, found, strict=False)]
    return Line(
        setting=setting.name,
        seeds=len(found),
        accuracy=statistics.fmean(accuracies),
        accuracies=accuracies,
        macro_f1=statistics.fmean(each.macro_f1 for each in found),
        behind=_mean(apart) if has_bases and setting.name != CENTRALISED else None,
        behind_by_seed=[each.value for each in apart] if has_bases else [],
        of_pooled=sum(accuracies) / sum(each.accuracy[-1] for each in bases) if has_bases else None,
        honest_rejected=sum(each.honest_rejected for each in found),
        attackers_selected=sum(each.attackers_selected for each in found),
        epsilon=max((each.epsilon for each in found if each.epsilon is not None), default=None),
    )


def _mean(intervals: Sequence[Interval]) -> Interval:
    values, lows, highs = ([getattr(each, name) for each in intervals] for name in ("value", "low", "high"))
    return Interval(value=statistics.fmean(values), low=statistics.fmean(lows), high=statistics.fmean(highs))


def _outputs(found: Learned) -> Outputs:
    """Return the answers to the test images as outputs that are sure of themselves."""
    answers, labels = torch.tensor(found.answers), torch.tensor(found.labels)
    chances = torch.nn.functional.one_hot(answers, found.classes).double()
    return Outputs(probabilities=chances, calibrated=chances, labels=labels)
