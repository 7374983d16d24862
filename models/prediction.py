"""What a saved model says of the slices of one scan: probabilities, a vote, abstention, and doubts about the input."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from data.transforms import normalised
from fednet.errors import BadInput, ModelError
from models.checkpoint import Checkpoint

_BATCH = 64  # slices at once


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How logits are turned into an answer; a checkpoint's `facts.extra` may hold each under its name."""

    temperature: float = 1.0  # logits are divided by it: calibration fitted on validation
    threshold: float = 0.0  # below this confidence there is no answer
    max_energy: float = math.inf  # above this the input is unlike what was learned (Liu et al., NeurIPS 2020)

    def __post_init__(self) -> None:
        """Raise `BadInput` for numbers that make no sense."""
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise BadInput(f"temperature {self.temperature}", expected="a positive number")
        if not 0 <= self.threshold <= 1:
            raise BadInput(f"--threshold {self.threshold}", expected="a confidence from 0 to 1")
        if math.isnan(self.max_energy):
            raise BadInput("max_energy nan", expected="a number")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says of one scan."""

    probabilities: tuple[float, ...]  # mean over the slices, in the order of the classes
    label: int  # the most probable class
    has_abstained: bool  # its probability is below the threshold
    votes: tuple[int, ...]  # how many slices have each class as their most probable
    clearest: int  # place of the slice that speaks most for `label`
    energy: float  # mean over the slices; the higher, the less like anything learned

    @property
    def confidence(self) -> float:
        """The probability of the class `label`."""
        return self.probabilities[self.label]


def rules_of(extra: dict[str, Any], *, threshold: float | None = None) -> Rules:
    """Return the rules a checkpoint brings, with the user's threshold where given; raises `ModelError`, `BadInput`."""
    brought = {name: extra[name] for name in ("temperature", "threshold", "max_energy") if name in extra}
    for name, value in brought.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError("model's facts", found=f"{name} that is no number", expected="a number")
    return Rules(**brought if threshold is None else brought | {"threshold": threshold})


def is_calibrated(extra: dict[str, Any]) -> bool:
    """Return whether a checkpoint's probabilities were fitted to what is observed: it brings a temperature then."""
    return "temperature" in extra


class Predictor:
    """A saved model that is asked about scans, on one device."""

    def __init__(self, saved: Checkpoint, rules: Rules, *, device: torch.device) -> None:
        """Raises `ModelError` where the weights do not fit their architecture."""
        self.model = saved.build().to(device).eval()
        self.rules = rules
        self.device = device

    def ask(self, images: torch.Tensor) -> Answer:
        """Return the answer to the slices of one scan  # (n, 1, s, s) uint8, one or more."""
        return answer_to(self._logits(images), self.rules)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            found = [self.model(normalised(part.to(self.device))).float().cpu() for part in torch.split(images, _BATCH)]
        return torch.cat(found).double()


def answer_to(logits: torch.Tensor, rules: Rules) -> Answer:
    """Return the answer behind the logits of every slice  # (n, classes); raises `ModelError` unless they are finite.

    Each slice has as much to say as its probabilities: their mean decides, and the votes are counted beside it.
    """
    if not bool(logits.isfinite().all()):
        raise ModelError("model's outputs", found="numbers that are not finite", todo="take another round's model")
    chances = (logits / rules.temperature).softmax(dim=1)  # (n, classes)
    mean = chances.mean(dim=0)
    label = int(mean.argmax())
    counts = Counter(chances.argmax(dim=1).tolist())
    return Answer(
        probabilities=tuple(mean.tolist()),
        label=label,
        has_abstained=float(mean[label]) < rules.threshold,
        votes=tuple(counts[each] for each in range(logits.shape[1])),
        clearest=int(chances[:, label].argmax()),
        energy=float(-logits.logsumexp(dim=1).mean()),
    )


def vote_in_words(votes: Sequence[int], classes: Sequence[str]) -> str:
    """Return for example `glioma 12, no_tumor 3`: those who got any, most first."""
    got = sorted(((count, name) for count, name in zip(votes, classes, strict=True) if count), reverse=True)
    return ", ".join(f"{name} {count}" for count, name in got)
