"""A run of any size that nobody trained: a store whose numbers are made up, to measure what reads one."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fednet.audit.record import NOTHING_BEFORE, SignedRecord, canonical, document_text, make_header
from fednet.config import RunId, RunSettings
from fednet.storage.atomic import write_json
from fednet.storage.store import CommittedRound, RunStore, checkpoint_name

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
_SCANS = 400  # of the test set, as many of each class
_MAPPED = 100  # updates whose distances a round keeps
_REASON = "rejected: its update is 4.1 times as large as the selected ones and points away from them (cosine -0.51)"


def names(workers: int) -> list[str]:
    """Return as many workers' names."""
    return [f"client{number}" for number in range(1, workers + 1)]


class PretendedRun:
    """A run folder, held as by its coordinator; a round is committed on demand."""

    def __init__(self, folder: Path, *, workers: Sequence[str], attackers: Collection[str], rounds: int) -> None:
        """`rounds` is how many it is to have; `attackers`, some of the `workers`, are rejected in each of them."""
        self.folder = folder
        self.workers = list(workers)
        self._attackers = frozenset(attackers)
        self._random = random.Random(0)  # noqa: S311 - the same run each time, and nothing secret
        self._previous = NOTHING_BEFORE
        self.settings = RunSettings(
            model="small-cnn",
            image_size=64,
            classes=CLASSES,
            rounds=rounds,
            workers=len(self.workers),
            byzantine=len(self._attackers),
            quorum=len(self.workers),
            pre=("nnm",),
        )
        self._held_out = {name: [self._random.randint(4, 30) for _ in CLASSES] for name in self.workers}
        self.store = RunStore(folder)
        first = self._record(0, {}, {"manifest": ""})
        self.store.begin(RunId("pretended"), self.settings, first, manifest="", software="fednet, made up")

    def commit(self, number: int) -> None:
        """Commit a round."""
        document = self._document(number)
        committed = CommittedRound(
            round=number, checkpoint=checkpoint_name(number), model_sha256=f"{number:064x}", document=document
        )
        self.store.commit(committed, self._record(number, document, {}))

    def show_status(self, number: int, fraction: float, *, now: datetime | None = None) -> None:
        """Renew `status.json` as a coordinator does each second: every worker trains in round `number`."""
        now = now or datetime.now(UTC)
        document = {
            "updated": now.isoformat(timespec="milliseconds"),
            "pid": 0,
            "phase": "collecting",
            "round": number,
            "round_s": 10 * fraction,
            "text": f"round {number}, waiting for {len(self.workers)} of {len(self.workers)}",
            "declined": {},
            "workers": [
                {
                    "name": name,
                    "connected": True,
                    "activity": "training",
                    "fraction": fraction,
                    "remaining_s": round(10 * (1 - fraction), 1),
                    "images_per_s": 120.0,
                    "loss": 0.5,
                    "samples": 340,
                    "device": "cpu",
                    "last_seen": now.isoformat(timespec="seconds"),
                    "certificate_expires": (now + timedelta(days=30)).isoformat(timespec="seconds"),
                }
                for name in self.workers
            ],
        }
        write_json(self.folder / "status.json", document, durably=False)

    def close(self, how: str = "finished", reason: str = "all rounds are done") -> None:
        """End the run, and let go of its folder."""
        self.store.ended(how, reason)
        self.store.fold()
        self.store.close()

    def _record(self, number: int, document: dict[str, Any], facts: dict[str, Any]) -> SignedRecord:
        header = make_header(
            run="pretended",
            round_number=number,
            previous=self._previous,
            entries=(),
            model_before=f"{max(0, number - 1):064x}",
            model_after=f"{number:064x}",
            document=document_text(document),
            settings=self.settings.to_dict(),
            facts=facts,
        )
        record = SignedRecord(header=header, entries=(), signature=canonical("nobody"), certificate=b"")
        self._previous = record.digest
        return record

    def _document(self, number: int) -> dict[str, Any]:
        accuracy = 0.95 - 0.7 * math.exp(-number / 6) + self._random.uniform(-0.01, 0.01)
        absent = self.workers[number % 7 :: 97] if len(self.workers) > 20 else []
        away = set(absent)
        sent = sorted(name for name in self.workers if name not in away)
        updates = [self._update(name) for name in sent]
        points = [self._point(name) for name in sent]
        squared = [[math.dist(one, other) ** 2 for other in points] for one in points] if len(sent) <= _MAPPED else None
        metrics = _metrics(accuracy)
        return {
            "round": number,
            "updates": updates,
            "byzantine": self.settings.byzantine,
            "aggregation": {
                "scored": sent,
                "cut": max((each["score"] for each in updates if each["selected"]), default=None),
                "note": "",
                "squared_distances": squared,
                **({"map": points} if squared is None else {}),
            },
            "absent": absent,
            "validation": _metrics(accuracy - 0.01),
            "test": metrics,
            "site_evaluation": dict(self._site_evaluations(sent[:40])),
            "model_sha256": f"{number:064x}",
            "seconds": {"train": 8.0, "transfer": 0.8, "aggregate": 0.3, "evaluate": 0.6, "commit": 0.02, "round": 9.8},
        }

    def _update(self, name: str) -> dict[str, Any]:
        attacks = name in self._attackers
        return {
            "worker": name,
            "selected": not attacks,
            "reason": _REASON if attacks else "selected",
            "score": self._random.uniform(90, 110) if attacks else self._random.uniform(5.5, 6.5),
            "norm": self._random.uniform(6, 7) if attacks else self._random.uniform(1.5, 1.8),
            "weight": 0.0 if attacks else 1 / (len(self.workers) - len(self._attackers)),
            "cosine": -0.5 if attacks else 0.75,
            "quarantined": False,
            "samples": 340,
            "train_s": 8.0,
            "loss": 0.5,
            "epsilon": None,
            "delta": None,
            "arrived_s": 8.4,
            "nbytes": 400_000,
            "sha256": "00" * 32,
            "fingerprint": "00" * 32,
        }

    def _point(self, name: str) -> list[float]:
        x, y = (5.0, 2.0) if name in self._attackers else (0.0, 0.0)
        return [round(self._random.gauss(x, 0.5), 4), round(self._random.gauss(y, 0.5), 4)]

    def _site_evaluations(self, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            counts = self._held_out[name]
            confusion = [[count if row == column else 1 for column in range(4)] for row, count in enumerate(counts)]
            yield name, {"confusion": confusion, "images": sum(map(sum, confusion)), "accuracy": 0.9, "macro_f1": 0.9}


def _metrics(accuracy: float) -> dict[str, Any]:
    each = _SCANS // len(CLASSES)
    recalls = [min(1.0, max(0.0, accuracy + shift)) for shift in (-0.06, -0.02, 0.03, 0.05)]
    confusion = [
        [round(each * recall) if row == column else 0 for column in range(4)] for row, recall in enumerate(recalls)
    ]
    for row, counts in enumerate(confusion):
        counts[(row + 1) % 4] += each - sum(counts)
    return {
        "images": _SCANS,
        "loss": 1.6 * (1 - accuracy) + 0.05,
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "macro_auc": 1 - (1 - accuracy) / 3,
        "per_class": {name: {"recall": recall} for name, recall in zip(CLASSES, recalls, strict=True)},
        "confusion": confusion,
    }
