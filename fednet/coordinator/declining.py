"""What hospitals have declined, in words and for a round's record."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fednet.config import WorkerName

_MOST_CHARACTERS = 500  # of a reason: it goes into logs, status and the round's document


def plain_reason(text: str) -> str:
    """Return a worker's reason as one line that a terminal shows harmlessly."""
    shown = "".join(char if char.isprintable() else " " for char in text).strip()
    return shown[:_MOST_CHARACTERS] or "no reason was given"


def declined_in(
    cohort: Collection[WorkerName],
    delivered: Collection[WorkerName],
    *,
    this_round: Mapping[WorkerName, str],
    the_run: Mapping[WorkerName, str],
) -> dict[WorkerName, str]:
    """Return who was asked in a round and declined it, or has left because it declines the run, and why; by name."""
    reasons = {worker: reason for worker, reason in the_run.items() if worker in cohort} | dict(this_round)
    return {worker: reason for worker, reason in sorted(reasons.items()) if worker not in delivered}


def declined_text(declined: Mapping[WorkerName, str]) -> str:
    """Return for example `client2 declined: 9 local epochs asked, at most 5 agreed`; empty where nobody has."""
    return "; ".join(f"{worker} declined: {reason}" for worker, reason in sorted(declined.items()))
