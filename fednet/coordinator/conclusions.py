"""What follows from a run's committed rounds: the best one, `history.json`, who is suspect, who is left out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fednet.aggregation.reputation import Standing, standings, suspects
from fednet.aggregation.rules.registry import recipe_named
from fednet.config import RunSettings, WorkerName
from fednet.ranking import Document, best_of

RESENT = "sent again: "


def history_of(
    run: str, settings: RunSettings, documents: Sequence[Document], *, stated: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what `history.json` says after these rounds; plain JSON types.

    `stated`: the settings as they were written down, by an earlier version that had fewer, say.
    """
    return {
        "run": run,
        "settings": settings.to_dict() if stated is None else dict(stated),
        "best_round": best_of(documents),
        "standings": [asdict(each) for each in _standings(documents, settings)],
        "rounds": list(documents),
    }


def suspects_after(documents: Sequence[Document], settings: RunSettings) -> list[Standing]:
    """Return who was rejected too often of late: as often as quarantine asks for, or else always."""
    return suspects(
        _standings(documents, settings),
        rejections=settings.quarantine or settings.reputation_window,
        window=settings.reputation_window,
    )


def quarantined_after(documents: Sequence[Document], settings: RunSettings) -> dict[WorkerName, str]:
    """Return whose updates the next round leaves out, and why: if the operator says so, at most f workers."""
    if not settings.quarantine:
        return {}
    return {
        WorkerName(each.worker): f"quarantined, after {each.rejected_lately} rejections in {each.lately} rounds"
        for each in suspects_after(documents, settings)[: settings.byzantine]
    }


def resent_after(
    documents: Sequence[Document], digests: Mapping[WorkerName, str], settings: RunSettings
) -> dict[WorkerName, str]:
    """Return whose updates the rounds before have had already, byte for byte, and from whom; digests as recorded.

    Asked for by `--pre similarity`. What is nearly an earlier update is not looked for: its values are gone. Updates of
    nothing (norm 0) are alike without anybody's doing, and one that starts from the model of then may be like it.
    """
    if not documents or "similarity" not in recipe_named(settings.aggregator, settings.pre).steps:
        return {}
    now, before = documents[-1].get("model_sha256"), None
    known: dict[str, str] = {}
    for document in documents:
        base = document.get("model_sha256") if document.get("refused") else before
        for each in document["updates"] if base != now else ():
            if each["norm"]:
                known.setdefault(each["sha256"], f"{RESENT}{each['worker']}'s update of round {document['round']}")
        before = document.get("model_sha256")
    return {worker: known[digest] for worker, digest in digests.items() if digest in known}


def _standings(documents: Sequence[Document], settings: RunSettings) -> list[Standing]:
    """Return how each worker fared over all these rounds."""
    return standings([each["updates"] for each in documents], window=settings.reputation_window)


def refusal_of_step(before: Document | None, judged: Document, *, guard: float) -> str | None:
    """Return why a step is not taken: validation accuracy fell by more than `guard` and its loss rose; else None.

    `before`: the last committed round, None before the first; `judged`: {"validation": metrics} of the new model.
    """
    was, now = (before or {}).get("validation"), judged.get("validation")
    if not guard or not was or not now:
        return None
    fall = was["accuracy"] - now["accuracy"]
    if fall <= guard or now["loss"] <= was["loss"]:
        return None
    return (
        f"step refused: validation accuracy would fall from {was['accuracy']:.3f} to {now['accuracy']:.3f}, "
        f"more than --guard {guard:g}; the model stays as it was"
    )
