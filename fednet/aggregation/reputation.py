"""Who was rejected over the rounds, and the two things it can mean: a faulty site, or one whose patients differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LIKE_THE_OTHERS = 0.0  # mean cosine from which a rejected update still pulls where the selected pull


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One worker over all rounds so far: what it contributed, and what became of it."""

    worker: str
    rounds: int  # in which it sent an update
    rejected: int
    lately: int  # how many of its last rounds the next two are about: those in which it was judged
    rejected_lately: int
    cosine_lately: float | None  # mean cosine to the selected
    mean_weight: float  # share of the step, 0 to 1, over all its rounds


def standings(rounds: Sequence[Sequence[Mapping[str, object]]], *, window: int) -> list[Standing]:
    """Return every worker's standing, by name, from the rounds' verdicts: `worker`, `selected`, `cosine`, `weight`."""
    by_worker: dict[str, list[Mapping[str, object]]] = {}
    for verdicts in rounds:
        for verdict in verdicts:
            by_worker.setdefault(str(verdict["worker"]), []).append(verdict)
    return [_standing(worker, by_worker[worker], window) for worker in sorted(by_worker)]


def _standing(worker: str, verdicts: Sequence[Mapping[str, object]], window: int) -> Standing:
    lately = [each for each in verdicts if not each.get("quarantined")][-window:]  # quarantine proves nothing
    cosines = [value for each in lately if isinstance(value := each.get("cosine"), float)]
    weights = [value if isinstance(value := each.get("weight"), float) else 0.0 for each in verdicts]
    return Standing(
        worker=worker,
        rounds=len(verdicts),
        rejected=sum(not each["selected"] for each in verdicts),
        lately=len(lately),
        rejected_lately=sum(not each["selected"] for each in lately),
        cosine_lately=sum(cosines) / len(cosines) if cosines else None,
        mean_weight=sum(weights) / len(weights),
    )


def suspects(found: Sequence[Standing], *, rejections: int, window: int) -> list[Standing]:
    """Return who was rejected in at least `rejections` of its last `window` rounds, the worst first.

    Nobody is judged before it has sent `window` updates.
    """
    listed = [each for each in found if each.lately == window and each.rejected_lately >= rejections]
    return sorted(listed, key=lambda each: (-each.rejected_lately, each.cosine_lately or 0.0, each.worker))


def warning(standing: Standing, *, would_improve: bool | None = None) -> str:
    """Return what to tell the operator of a suspect.

    `would_improve`: whether validation gets better when its update is counted too, where that was tried.
    """
    known = f"{standing.worker} was rejected in {standing.rejected_lately} of its last {standing.lately} rounds"
    agrees = standing.cosine_lately is not None and standing.cosine_lately > LIKE_THE_OTHERS
    if would_improve or (would_improve is None and agrees):
        why = (
            "though validation would improve with its update"
            if would_improve
            else f"though its updates agree with the selected ones (cosine {standing.cosine_lately:.2f})"
        )
        return (
            f"{known}, {why}: it may be an honest hospital whose patients differ. --pre nnm lets such hospitals count"
        )
    return f"{known}: look at what it sends; --quarantine {standing.rejected_lately} leaves out who is like that"
