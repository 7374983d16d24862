"""Who was rejected over the rounds, and the two things it can mean: a faulty site, or one whose patients differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WINDOW = 5  # rounds: of five rejections in a row chance is no explanation any more
LIKE_THE_OTHERS = 0.0  # mean cosine from which a rejected update still pulls where the selected pull


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One worker over all rounds so far."""

    worker: str
    rounds: int  # in which it sent an update
    rejected: int
    rejected_lately: int  # of the last `WINDOW` it sent one in
    cosine_lately: float | None  # mean cosine to the selected, over these

    @property
    def is_always_rejected(self) -> bool:
        """Whether it was rejected in every one of its last `WINDOW` rounds."""
        return self.rejected_lately >= WINDOW


def standings(rounds: Sequence[Sequence[Mapping[str, object]]]) -> list[Standing]:
    """Return every worker's standing, by name, from the rounds' verdicts: `worker`, `selected`, `cosine` of each."""
    by_worker: dict[str, list[Mapping[str, object]]] = {}
    for verdicts in rounds:
        for verdict in verdicts:
            by_worker.setdefault(str(verdict["worker"]), []).append(verdict)
    return [_standing(worker, by_worker[worker]) for worker in sorted(by_worker)]


def _standing(worker: str, verdicts: Sequence[Mapping[str, object]]) -> Standing:
    lately = verdicts[-WINDOW:]
    cosines = [value for each in lately if isinstance(value := each.get("cosine"), float)]
    return Standing(
        worker=worker,
        rounds=len(verdicts),
        rejected=sum(not each["selected"] for each in verdicts),
        rejected_lately=sum(not each["selected"] for each in lately),
        cosine_lately=sum(cosines) / len(cosines) if cosines else None,
    )


def warning(standing: Standing) -> str | None:
    """Return what to tell the operator of a worker that is always rejected, or None."""
    if not standing.is_always_rejected:
        return None
    known = f"{standing.worker} was rejected in each of its last {WINDOW} rounds"
    if standing.cosine_lately is not None and standing.cosine_lately > LIKE_THE_OTHERS:
        return (
            f"{known}, though its updates agree with the selected ones (cosine {standing.cosine_lately:.2f}): it may "
            f"be an honest hospital whose patients differ. --pre nnm lets such hospitals count"
        )
    return f"{known}: look at what it sends, or leave it out of the next run"
