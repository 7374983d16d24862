"""What sites say of the model that a round began with, judged on scans held out there.

Claims: nothing can show whether they are true. So they are for people to read, and decide nothing: neither what counts
in an aggregation nor which round is the best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fednet.reporting.confusion import accuracy, images_in, macro_f1, squared
from fednet.storage.store import StoredUpdate


def impossibility(confusion: Sequence[int], *, classes: int, samples: int) -> str | None:
    """Return why no site that trains on `samples` scans can have these counts; None where one can."""
    if len(confusion) not in (0, classes * classes):
        return f"confusion has {len(confusion)} counts, must be {classes * classes}, or 0 where nothing is shared"
    if sum(confusion) > samples:
        return f"confusion is of {sum(confusion)} scans, more than the {samples} that this site trains on"
    return None


def site_evaluation(updates: Iterable[StoredUpdate], *, classes: int, round_number: int) -> dict[str, Any]:
    """Return the part of a round's document that says what its sites found, by worker; empty where none shares.

    `of_round` is the round that made the model which they judged; 0: the model that the run began with.
    """
    told = {each.worker: squared(each.confusion, classes=classes) for each in updates if any(each.confusion)}
    sites = {
        worker: {
            "of_round": round_number - 1,
            "confusion": confusion,
            "images": images_in(confusion),
            "accuracy": accuracy(confusion),
            "macro_f1": macro_f1(confusion),
        }
        for worker, confusion in sorted(told.items())
    }
    return {"site_evaluation": sites} if sites else {}
