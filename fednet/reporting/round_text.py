"""What a committed round says, as lines and cells of text. Pure."""

from __future__ import annotations

from typing import Any

_MOST_SITES = 8  # in one line
COLUMNS = ("round", "accuracy", "macro F1", "selected", "rejected", "train", "transfer", "aggregate", "evaluate")


def round_cells(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a round's table row; seconds with their unit."""
    test, seconds = document.get("test") or {}, document["seconds"]
    selected = [entry["worker"] for entry in document["updates"] if entry["selected"]]
    rejected = [entry["worker"] for entry in document["updates"] if not entry["selected"]]
    return (
        str(document["round"]),
        f"{test['accuracy']:.3f}" if test else "-",
        f"{test['macro_f1']:.3f}" if test else "-",
        ", ".join(selected) or "nobody",
        ", ".join(rejected) or "-",
        *(f"{seconds[name]:.1f} s" for name in ("train", "transfer", "aggregate", "evaluate")),
    )


def rejections(document: dict[str, Any]) -> list[str]:
    """Return one line for each rejected worker."""
    return [f"{entry['worker']} {entry['reason']}" for entry in document["updates"] if not entry["selected"]]


def declines(document: dict[str, Any]) -> list[str]:
    """Return one line for each worker that does not count in this round: its hospital does not agree, or is revoked."""
    return [
        f"{worker} {what}: {reason}"
        for what in ("declined", "revoked")
        for worker, reason in document.get(what, {}).items()
    ]


def sites_line(document: dict[str, Any]) -> str | None:
    """Return what sites say of the model that the round began with, the lowest first; None where none shares."""
    sites = document.get("site_evaluation")
    if not sites:
        return None
    told = sorted(sites, key=lambda worker: sites[worker]["accuracy"])
    texts = [f"{worker} {sites[worker]['accuracy']:.2f} of {sites[worker]['images']}" for worker in told[:_MOST_SITES]]
    more = [f"and {len(told) - _MOST_SITES} more"] if len(told) > _MOST_SITES else []
    return f"sites on round {document['round'] - 1}'s model: {', '.join([*texts, *more])}"


def privacy_line(document: dict[str, Any]) -> str | None:
    """Return what client-level differential privacy has spent; None where the run keeps none."""
    told = document.get("client_privacy")
    if not told:
        return None
    lost = told["rounds"] - document["round"]
    more = f", {lost} of them of rounds that were not committed" if lost > 0 else ""
    steps = "1 noised step" if told["rounds"] == 1 else f"{told['rounds']} noised steps"
    return (
        f"client-level privacy spent: epsilon {told['epsilon']:.3g} at delta {told['delta']:g} for {steps}{more}; "
        f"{told['clipped']} of {len(document['updates'])} updates were clipped to {told['clip']:g}"
    )
