"""What a run leaves behind: a checkpoint and a row for each round, `best.pth`, `final.pth`, `history.json`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fednet.aggregation.reputation import Standing, standings, suspects
from fednet.config import RunId, RunSettings, WorkerName
from fednet.storage.atomic import publish, write_json
from fednet.storage.store import CommittedRound, RunStore
from fednet.tensors import digest_of

SaveModel = Callable[[Path, torch.Tensor, dict[str, Any]], None]
"""Writes a flat model (uint8) as a checkpoint, atomically; the dict holds `round` and `run`."""


@dataclass
class Timings:
    """Seconds of one round, by what they were spent on; `round` is all of it, on the coordinator's clock."""

    train: float = 0.0
    transfer: float = 0.0
    aggregate: float = 0.0
    evaluate: float = 0.0
    commit: float = 0.0
    round: float = 0.0


class RunRecord:
    """Writes a run's rounds. The database row is the commit point: files come before it, copies of them after."""

    def __init__(self, *, run: RunId, settings: RunSettings, store: RunStore, save: SaveModel) -> None:
        self._run = run
        self._settings = settings
        self._store = store
        self._save = save
        self._folder = store.folder
        self._verdicts: list[list[dict[str, Any]]] = [each.document["updates"] for each in store.rounds()]

    def commit(
        self, document: dict[str, Any], model: torch.Tensor, timings: Timings, *, round_began: float
    ) -> dict[str, Any]:
        """Make a round durable and return its document as stored. Raises `DiskFull` with nothing committed.

        `round_began` is a `time.perf_counter()` moment.
        """
        began = time.perf_counter()
        number: int = document["round"]
        checkpoint = f"round-{number:04d}.pth"
        self._save(self._folder / "checkpoints" / checkpoint, model, {"round": number, "run": self._run})
        digest = digest_of(model)
        now = time.perf_counter()
        timings.commit, timings.round = now - began, now - round_began
        document = document | {"model_sha256": digest, "seconds": asdict(timings)}
        self._store.commit(CommittedRound(round=number, checkpoint=checkpoint, model_sha256=digest, document=document))
        self._verdicts.append(document["updates"])
        self.publish()
        return document

    def publish(self) -> None:
        """Write what follows from the committed rounds: `history.json`, and `best.pth` by validation alone."""
        rounds = self._store.rounds()
        best = max(rounds, key=_validation_rank)
        publish(self._folder / "checkpoints" / best.checkpoint, self._folder / "best.pth")
        history = {
            "run": self._run,
            "settings": self._settings.to_dict(),
            "best_round": best.round,
            "standings": [asdict(each) for each in self._standings()],
            "rounds": [committed.document for committed in rounds],
        }
        write_json(self._folder / "history.json", history)

    def suspects(self) -> list[Standing]:
        """Return who was rejected too often of late: as often as quarantine asks for, or else always."""
        settings = self._settings
        return suspects(
            self._standings(),
            rejections=settings.quarantine or settings.reputation_window,
            window=settings.reputation_window,
        )

    def quarantined(self) -> dict[WorkerName, str]:
        """Return whose updates the next round leaves out, and why: if the operator says so, at most f workers."""
        if not self._settings.quarantine:
            return {}
        return {
            WorkerName(each.worker): f"quarantined, after {each.rejected_lately} rejections in {each.lately} rounds"
            for each in self.suspects()[: self._settings.byzantine]
        }

    def _standings(self) -> list[Standing]:
        """Return how each worker fared over all committed rounds."""
        return standings(self._verdicts, window=self._settings.reputation_window)

    def finish(self) -> None:
        """Publish the last round's model as `final.pth`."""
        last = self._store.rounds()[-1].checkpoint
        publish(self._folder / "checkpoints" / last, self._folder / "final.pth")


def _validation_rank(committed: CommittedRound) -> tuple[float, float, int]:
    validation = committed.document.get("validation") or {}
    return validation.get("macro_f1", 0.0), -validation.get("loss", 0.0), -committed.round
