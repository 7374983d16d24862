"""Made-up runs of any size: documents of rounds, and a folder that holds them; no model was trained for them."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from fednet.aggregation.geometry import Geometry
from fednet.config import RunId, RunSettings
from fednet.storage.store import RunStore
from tests.audit.records import chain, record

CLASSES = ("glioma", "meningioma", "no_tumor", "pituitary")
ATTACKER_REASON = "rejected: its update is 1 times as large as the selected ones and points away from them"


def settings(**changes: Any) -> RunSettings:
    """Return settings of a made-up run."""
    fields: dict[str, Any] = {"model": "small-cnn", "image_size": 64, "classes": CLASSES, "rounds": 5, "workers": 5}
    fields |= {"byzantine": 1, "quorum": 5, "pre": ("nnm",)} | changes
    return RunSettings(**fields)


def names(workers: int) -> list[str]:
    """Return as many workers' names, in order."""
    return sorted(f"client{number}" for number in range(1, workers + 1))


def round_document(number: int, *, workers: int = 5, **changes: Any) -> dict[str, Any]:
    """Return a round in which the last worker by name attacks and is rejected."""
    who = names(workers)
    distances = None
    if workers <= 100:
        points = torch.randn(workers, 8, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
        points[-1] += 10.0
        distances = Geometry.of(points).squared_distances().tolist()
    metrics = _metrics(1 - 0.5 / number)
    document: dict[str, Any] = {
        "round": number,
        "updates": [_update(name, number, is_honest=name != who[-1]) for name in who],
        "byzantine": 1,
        "aggregation": {"scored": who, "cut": 3.0, "note": "", "squared_distances": distances},
        "absent": [],
        "validation": metrics,
        "test": metrics,
        "model_sha256": f"{number:064x}",
        "seconds": {"train": 3.0, "transfer": 1.0, "aggregate": 0.5, "evaluate": 0.25, "commit": 0.25, "round": 5.0},
    }
    return document | changes


def _update(worker: str, number: int, *, is_honest: bool) -> dict[str, Any]:
    value = random.Random(f"{worker} {number}").random()
    return {
        "worker": worker,
        "selected": is_honest,
        "reason": "selected" if is_honest else ATTACKER_REASON,
        "score": 1 + value if is_honest else 9 + value,
        "norm": 2 + value,
        "weight": 0.25 if is_honest else 0.0,
        "cosine": 0.5 if is_honest else -0.5,
        "kept": None,
        "quarantined": False,
        "samples": 100,
        "train_s": 2 + value,
        "loss": 1 / number + value,
        "epsilon": None,
        "delta": None,
        "arrived_s": 3 + value,
        "sha256": "ab" * 32,
        "fingerprint": "cd" * 32,
        "nbytes": 1000,
    }


def _metrics(accuracy: float) -> dict[str, Any]:
    right = round(100 * accuracy)
    wrong = [[right if row == column else (100 - right) // 3 for column in range(4)] for row in range(4)]
    per_class = {"precision": accuracy, "recall": accuracy, "f1": accuracy, "auc": accuracy, "support": 100}
    return {
        "images": 400,
        "loss": 1.5 - accuracy,
        "accuracy": accuracy,
        "balanced_accuracy": accuracy,
        "macro_f1": accuracy - 0.01,
        "macro_auc": accuracy,
        "per_class": dict.fromkeys(CLASSES, per_class),
        "confusion": wrong,
    }


def begun(folder: Path, run_settings: RunSettings | None = None) -> RunStore:
    """Begin a run in `folder`; its store, held."""
    store = RunStore(folder)
    store.begin(RunId("run"), run_settings or settings(), chain()[0], manifest="m", software="fednet test")
    return store


def commit(folder: Path, document: dict[str, Any]) -> None:
    """Put a round into a run's database, whoever holds it, with an unsigned record of it."""
    row = record(document["round"], None, {})
    with closing(sqlite3.connect(folder / "run.sqlite", timeout=30)) as database, database:
        database.execute(
            "INSERT INTO rounds VALUES (?, ?, ?, ?, ?)",
            (document["round"], 0.0, "", document["model_sha256"], json.dumps(document)),
        )
        database.execute(
            "INSERT INTO audit (round, header, signature, certificate, entries) VALUES (?, ?, ?, ?, ?)",
            (row.round, row.header, row.signature, row.certificate, "[]"),
        )


def make_run(folder: Path, *, rounds: int, workers: int = 5, is_running: bool = False) -> RunStore | None:
    """Write a whole run; the store, held, where it `is_running`."""
    store = begun(folder, settings(rounds=rounds + is_running, workers=workers, quorum=workers))
    for number in range(1, rounds + 1):
        commit(folder, round_document(number, workers=workers))
    if is_running:
        return store
    store.ended("finished", f"all {rounds} rounds are done")
    store.fold()
    store.close()
    return None
