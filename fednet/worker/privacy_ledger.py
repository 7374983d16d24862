"""What a hospital has spent of its privacy budget, over all runs: `client_<id>.privacy.jsonl`, beside its own model.

Each training by differential privacy is charged here, durably, before its first step: a crash can only count too much.
Given back is what was stopped half-way, of which nothing has left the hospital. Each line names the digest of the one
before, so that a line that was changed or taken out of the middle shows; whether lines are missing at the end, the
digest shows that `client_<id>.pth` names. Knows nothing of Opacus: a reader need not wait for it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fednet.audit.record import NOTHING_BEFORE, canonical
from fednet.config import PrivacySettings, TrainingSettings
from fednet.errors import BadInput
from fednet.storage.journal import read_journal

FORMAT = "fednet-privacy-1"
_PLANNED, _CHARGED, _GIVEN_BACK = "planned", "charged", "given back"


@dataclass(frozen=True, kw_only=True)
class SiteMechanism:
    """Steps of DP-SGD that are alike; what they spend depends on nothing else (Abadi et al. 2016)."""

    noise_multiplier: float  # standard deviation of the noise, in clips
    sample_rate: float  # the chance of each scan to be in a step
    steps: int


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What was spent, of which budget."""

    epsilon: float
    delta: float
    budget: float  # the epsilon that may be spent in all
    rounds: int  # trainings that were charged
    runs: int


class Lines(Protocol):
    """A file that only grows (fednet.storage.journal.Journal), or its twin in memory."""

    documents: list[dict[str, Any]]  # what was there when it was opened

    def append(self, document: dict[str, Any]) -> None:
        """Write one more, durably."""


class InMemory:
    """Lines that are gone with the process: of a training whose result nobody keeps."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []

    def append(self, document: dict[str, Any]) -> None:
        """Forget it: what it says is in the ledger."""


class SiteLedger:
    """All that one hospital's scans have been used for under differential privacy."""

    def __init__(self, lines: Lines, *, name: str) -> None:
        """`name` says which ledger it is. Raises `BadInput` for one that is not as it was written."""
        self.name = name
        self._lines = lines
        self._book = _Book()
        for number, line in enumerate(lines.documents, start=1):
            self._book.take(line, where=f"line {number}", name=name)

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever written in it."""
        return self._book.head == NOTHING_BEFORE

    @property
    def head(self) -> str:
        """The digest of the last line, hex: what it has come to."""
        return self._book.head

    @property
    def charged(self) -> list[SiteMechanism]:
        """Everything that counts, over all runs."""
        return [mechanism for _, _, mechanism in self._book.charged]

    def require(self, head: str, *, beside: str) -> None:
        """Raise `BadInput` unless the ledger has a line of this digest, which the file `beside` names."""
        if head not in self._book.heads:
            raise BadInput(
                f"privacy ledger {self.name}",
                found="nothing of what was charged for " + beside + ": the ledger, or its end, is missing",
                expected="the ledger that was written with it",
                todo=f"put it back from a backup. Whoever moves {beside} away as well begins a new budget: what "
                "the old one has spent stays given away",
            )

    def noise_multiplier(self, run: str) -> float | None:
        """Return with how much noise this run trains, if that was decided."""
        return self._book.planned.get(run)

    def plan(self, run: str, mechanism: SiteMechanism, settings: PrivacySettings) -> None:
        """Remember how a run is going to train."""
        self._append(
            kind=_PLANNED,
            format=FORMAT,
            run=run,
            **_fields(mechanism),
            epsilon=settings.epsilon,
            delta=settings.delta,
            clip=settings.clip,
        )

    def charge(self, run: str, round_number: int, mechanism: SiteMechanism, *, epsilon: float, delta: float) -> None:
        """Count a training that is about to begin; `epsilon`: what is spent with it."""
        self._append(kind=_CHARGED, run=run, round=round_number, **_fields(mechanism), epsilon=epsilon, delta=delta)

    def give_back(self, run: str, round_number: int, *, epsilon: float, delta: float) -> None:
        """Count the last charge no more: its training was stopped, and nothing of it leaves; `epsilon`: without it."""
        self._append(kind=_GIVEN_BACK, run=run, round=round_number, epsilon=epsilon, delta=delta)

    def _append(self, **fields: Any) -> None:
        line = {"previous": self._book.head, **fields}
        self._lines.append(line)
        self._book.take(line, where="a line of this process", name=self.name)


def spent_in(path: Path) -> Spent:
    """Return what the ledger in this file says was spent; raises `StorageError`, or `BadInput` where it was changed."""
    book, last = _Book(), 0.0
    for number, line in enumerate(read_journal(path), start=1):
        book.take(line, where=f"line {number}", name=str(path))
        last = last if line["kind"] == _PLANNED else line["epsilon"]
    return Spent(epsilon=last, delta=book.delta, budget=book.budget, rounds=len(book.charged), runs=len(book.planned))


class _Book:
    """What a ledger's lines come to, one after the other."""

    def __init__(self) -> None:
        self.head = NOTHING_BEFORE
        self.heads = {NOTHING_BEFORE}
        self.planned: dict[str, float] = {}  # run -> noise multiplier
        self.charged: list[tuple[str, int, SiteMechanism]] = []
        self.budget = self.delta = 0.0

    def take(self, line: Mapping[str, Any], *, where: str, name: str) -> None:
        try:
            wrong = self._took(line)
        except (KeyError, TypeError, ValueError) as exc:
            wrong = f"it has no usable {exc}" if isinstance(exc, KeyError) else str(exc)
        if wrong:
            raise BadInput(
                f"privacy ledger {name}",
                found=f"{where} is not as it was written ({wrong})",
                expected="a file that only this program has written to",
                todo="put it back from a backup: what was spent cannot be told without it",
            )
        self.head = hashlib.sha256(canonical(line)).hexdigest()
        self.heads.add(self.head)

    def _took(self, line: Mapping[str, Any]) -> str:
        """Count a line; return what is wrong with it, or nothing."""
        if line["previous"] != self.head:
            return "it does not follow from the line before"
        kind, run = line["kind"], str(line["run"])
        if kind == _PLANNED:
            self.planned[run] = _mechanism(line).noise_multiplier
            self.budget, self.delta = _number(line, "epsilon"), _number(line, "delta")
        elif kind == _CHARGED:
            _number(line, "epsilon")
            self.delta = _number(line, "delta")
            self.charged.append((run, int(line["round"]), _mechanism(line)))
        elif kind == _GIVEN_BACK:
            _number(line, "epsilon")
            if not self.charged or self.charged[-1][:2] != (run, line["round"]):
                return "it gives back what was not charged last"
            self.charged.pop()
        else:
            return f"its kind is {kind!r}"
        return ""


def _fields(mechanism: SiteMechanism) -> dict[str, Any]:
    return {
        "noise_multiplier": mechanism.noise_multiplier,
        "sample_rate": mechanism.sample_rate,
        "steps": mechanism.steps,
    }


def _mechanism(line: Mapping[str, Any]) -> SiteMechanism:
    noise, rate, steps = _number(line, "noise_multiplier"), _number(line, "sample_rate"), line["steps"]
    if noise <= 0 or not 0 < rate <= 1 or type(steps) is not int or steps < 0:
        raise ValueError("its figures cannot be")
    return SiteMechanism(noise_multiplier=noise, sample_rate=rate, steps=steps)


def _number(line: Mapping[str, Any], name: str) -> float:
    value = line[name]
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"its {name} cannot be")
    return float(value)


def rate_and_steps(samples: int, training: TrainingSettings) -> tuple[float, int]:
    """Return (each scan's chance to be in a step, how many steps) of a round: as many as without privacy."""
    batches = math.ceil(samples / training.batch_size)
    return min(1.0, training.batch_size / samples), training.steps(batches)
