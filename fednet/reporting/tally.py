"""What a run's rounds add up to: each is added once, and none of them is kept whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fednet.reporting.reasons import reason_kind

Document = Mapping[str, Any]
"""A committed round as the run's database keeps it."""

NOT_ASKED = "-"
PHASES = ("train", "transfer", "aggregate", "evaluate", "commit")
_RANKED = ("round", "validation", "client_privacy")  # what fednet.ranking asks of a round
_DIGITS = 6  # of what is shown: enough for a tooltip, and a third of a float's text
_LATELY = 5  # rounds whose length says how long the next ones take


@dataclass
class WorkerTally:
    """One worker over all rounds."""

    letters: list[str] = field(default_factory=list)  # one a round, from the first one on
    selected: int = 0
    rejected: int = 0
    weight: float = 0.0  # the sum over its updates
    nbytes: int = 0  # of its updates, as they travelled
    last_reason: str = ""
    last: Document = field(default_factory=dict)  # its last update, as its round has it

    @property
    def mean_weight(self) -> float:
        """Return its mean share of the step, over the rounds in which it sent an update."""
        sent = self.selected + self.rejected
        return self.weight / sent if sent else 0.0


class Tally:
    """A run's rounds, added up."""

    def __init__(self, classes: Iterable[str]) -> None:
        self.workers: dict[str, WorkerTally] = {}
        self.rounds: list[int] = []
        self.ranked: list[Document] = []  # of each round what `fednet.ranking` asks for
        self.class_mix: dict[str, list[int]] = {}  # scans by class that a site held out and told of
        self.privacy: dict[str, Any] | None = None
        self.rejections: dict[str, int] = {}  # by kind of reason (reporting.reasons)
        self.series: dict[str, Any] = {
            "round": self.rounds,
            **{name: [] for name in ("accuracy", "macro_f1", "loss", "validation_accuracy")},
            "recall": {name: [] for name in classes},
            **{name: [] for name in ("selected", "rejected", "absent")},
            "seconds": {name: [] for name in PHASES},
        }
        self._lengths_s: list[float] = []

    def add(self, document: Document) -> None:
        """Add the round that comes next."""
        self.rounds.append(document["round"])
        self.ranked.append({name: document[name] for name in _RANKED if name in document})
        self.privacy = document.get("client_privacy") or self.privacy
        self._add_verdicts(document)
        self._add_series(document)
        for worker, told in document.get("site_evaluation", {}).items():
            self.class_mix[worker] = [sum(row) for row in told["confusion"]]

    def verdicts(self, *, after: int = 0) -> dict[str, Any]:
        """Return workers by rounds: `rounds`, `workers`, and in `grid` a string for each worker, a letter a round.

        s selected, r rejected, q quarantined, a absent, d declined, x revoked, - not asked. The first `after` rounds
        are left out.
        """
        names = sorted(self.workers)
        grid = ["".join(self.workers[name].letters[after:]) for name in names]
        return {"rounds": self.rounds[after:], "workers": names, "grid": grid}

    def round_s(self) -> float | None:
        """Return how long a round took of late, the median; None before the first."""
        lately = sorted(self._lengths_s[-_LATELY:])
        return lately[len(lately) // 2] if lately else None

    def _add_verdicts(self, document: Document) -> None:
        for update in document.get("updates", ()):
            letter = "s" if update["selected"] else "q" if update.get("quarantined") else "r"
            worker = self._mark(update["worker"], letter, update["reason"])
            worker.selected += update["selected"]
            worker.rejected += not update["selected"]
            if not update["selected"]:
                kind = reason_kind(update["reason"])
                self.rejections[kind] = self.rejections.get(kind, 0) + 1
            worker.weight += update.get("weight") or 0.0
            worker.nbytes += update.get("nbytes", 0)
            worker.last = update
        for name in document.get("absent", ()):
            self._mark(name, "a", "no update of it was in time")
        for name, reason in document.get("declined", {}).items():
            self._mark(name, "d", f"declined: {reason}")
        for name, reason in document.get("revoked", {}).items():
            self._mark(name, "x", f"revoked: {reason}")
        for worker in self.workers.values():
            if len(worker.letters) < len(self.rounds):
                worker.letters.append(NOT_ASKED)

    def _mark(self, name: str, letter: str, reason: str) -> WorkerTally:
        worker = self.workers.setdefault(name, WorkerTally())
        before = len(self.rounds) - 1
        worker.letters[len(worker.letters) :] = NOT_ASKED * (before - len(worker.letters))
        worker.letters[before:] = letter
        worker.last_reason = reason
        return worker

    def _add_series(self, document: Document) -> None:
        test, validation = document.get("test") or {}, document.get("validation") or {}
        series, updates = self.series, document.get("updates", ())
        for name in ("accuracy", "macro_f1", "loss"):
            series[name].append(rounded(test.get(name)))
        series["validation_accuracy"].append(rounded(validation.get("accuracy")))
        for name, recalls in series["recall"].items():
            recalls.append(rounded(test.get("per_class", {}).get(name, {}).get("recall")))
        selected = sum(update["selected"] for update in updates)
        series["selected"].append(selected)
        series["rejected"].append(len(updates) - selected)
        series["absent"].append(len(document.get("absent", ())))
        seconds = document.get("seconds", {})
        for name, values in series["seconds"].items():
            values.append(rounded(seconds.get(name)))
        if "round" in seconds:
            self._lengths_s.append(seconds["round"])


def tally_of(rounds: Iterable[Document], classes: Iterable[str]) -> Tally:
    """Return what these rounds add up to, the first one first."""
    tally = Tally(classes)
    for document in rounds:
        tally.add(document)
    return tally


def rounded(value: float | None) -> float | None:
    """Return a number as it is shown."""
    return None if value is None else round(value, _DIGITS)
