"""KRUMFedAvg: checks, Krum's selection, and the weighted average of the selected, with a verdict for everybody."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from fednet.aggregation.blocks import gram_matrix, row_norms, squared_distances, weighted_sum
from fednet.aggregation.buffers import median_buffers, voters
from fednet.aggregation.checks import faults
from fednet.aggregation.rows import ChosenRows, Rows
from fednet.aggregation.rules.registry import rule_named
from fednet.aggregation.rules.rule import Context, Selection
from fednet.config import WorkerName
from fednet.errors import AggregationError

WEIGHT_CAP = 2.0  # times the median claim: a sample count is a worker's word, and a lie must not buy the round


@dataclass(frozen=True)
class UpdateFacts:
    """What is known of an update beside its values."""

    worker: WorkerName
    samples: int  # as the worker claims


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one worker's update, and why, in words a hospital understands."""

    worker: WorkerName
    selected: bool
    reason: str
    score: float | None
    norm: float
    weight: float  # share of the step, 0 to 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a round's aggregation."""

    step: torch.Tensor  # (d,) float32, to be added to the global parameters
    buffers: dict[str, torch.Tensor]
    verdicts: tuple[Verdict, ...]  # by worker name
    distances: torch.Tensor  # (n, n) float64, squared, of the updates that were scored, by worker name
    scored: tuple[WorkerName, ...]
    byzantine_effective: int


def aggregate(
    updates: Sequence[UpdateFacts],
    rows: Rows,
    buffers: Sequence[Mapping[str, torch.Tensor]],
    *,
    rule: str,
    byzantine: int,
    device: torch.device,
) -> Outcome:
    """Combine a round's updates (`rows`  # n parameter deltas; `buffers`: each worker's BatchNorm statistics).

    The result does not depend on the order of the arguments: everything is arranged by worker name first. Raises
    `AggregationError` when more than f updates are faulty, or too few are left for the rule.
    """
    order = sorted(range(len(updates)), key=lambda index: updates[index].worker)
    updates = [updates[index] for index in order]
    buffers = [buffers[index] for index in order]
    rows = ChosenRows(rows, order)
    norms = row_norms(rows, device)
    complaints = faults(norms, [update.samples for update in updates], buffers)
    sound = [index for index, complaint in enumerate(complaints) if complaint is None]
    byzantine = _remaining_byzantine(updates, complaints, byzantine)
    chosen = rule_named(rule)
    if len(sound) < chosen.needs(byzantine):
        raise AggregationError(
            f"{rule} needs {chosen.needs(byzantine)} sound updates for f = {byzantine}, {len(sound)} are left"
        )
    kept = ChosenRows(rows, sound)
    distances = squared_distances(gram_matrix(kept, norms[sound], device))
    selection = chosen.select(distances, Context(byzantine))
    weights = capped_weights([updates[sound[index]].samples for index in range(len(sound))], selection.selected)
    heard = voters(selection.selected, count=len(sound), byzantine=byzantine)
    return Outcome(
        step=weighted_sum(kept, weights, device),
        buffers=median_buffers([buffers[sound[index]] for index in heard]),
        verdicts=_verdicts(updates, norms, complaints, sound, selection, weights, distances),
        distances=distances,
        scored=tuple(updates[index].worker for index in sound),
        byzantine_effective=byzantine,
    )


def capped_weights(samples: Sequence[int], selected: Sequence[int]) -> torch.Tensor:
    """Return each update's share of the step  # (n,) float64, summing to 1: by claimed samples, capped."""
    claims = torch.tensor([float(samples[index]) for index in selected], dtype=torch.float64)
    cap = WEIGHT_CAP * float(claims.median())
    weights = torch.zeros(len(samples), dtype=torch.float64)
    weights[list(selected)] = claims.clamp(max=cap)
    return weights / weights.sum()


def _remaining_byzantine(updates: Sequence[UpdateFacts], complaints: Sequence[str | None], byzantine: int) -> int:
    faulty = [update.worker for update, complaint in zip(updates, complaints, strict=True) if complaint is not None]
    if byzantine and len(faulty) > byzantine:
        raise AggregationError(
            f"{len(faulty)} updates are faulty, f = {byzantine} is what this run tolerates: {', '.join(faulty)}"
        )
    return max(0, byzantine - len(faulty))


def _verdicts(
    updates: Sequence[UpdateFacts],
    norms: torch.Tensor,
    complaints: Sequence[str | None],
    sound: Sequence[int],
    selection: Selection,
    weights: torch.Tensor,
    distances: torch.Tensor,
) -> tuple[Verdict, ...]:
    place = {index: position for position, index in enumerate(sound)}
    verdicts = []
    for index, (update, complaint) in enumerate(zip(updates, complaints, strict=True)):
        position = place.get(index)
        is_selected = position is not None and position in selection.selected
        if complaint is not None:
            reason = f"rejected before scoring: {complaint}"
        elif is_selected:
            reason = "selected"
        else:
            assert position is not None
            reason = _rejection(position, norms[list(sound)], selection, distances)
        score = None if position is None or selection.scores is None else float(selection.scores[position])
        verdicts.append(
            Verdict(
                worker=update.worker,
                selected=is_selected,
                reason=reason,
                score=score,
                norm=float(norms[index]),
                weight=float(weights[position]) if position is not None else 0.0,
            )
        )
    return tuple(verdicts)


def _rejection(position: int, norms: torch.Tensor, selection: Selection, distances: torch.Tensor) -> str:
    assert selection.scores is not None, "a rule that scores nobody keeps everybody"
    kept = list(selection.selected)
    own_score, last_kept = float(selection.scores[position]), float(selection.scores[kept].max())
    if own_score == last_kept:
        return "rejected: its Krum score equals that of the last one selected, and ties go by worker name"
    sentence = f"rejected: its update {_size(float(norms[position]), float(norms[kept].median()))}"
    cosine = _cosine_to_mean(position, kept, norms, distances)
    if cosine is not None:
        direction = "points away from" if cosine < 0 else "agrees little with" if cosine < 0.5 else "agrees with"
        sentence += f" and {direction} them (cosine {cosine:.2f})"
    if last_kept > 0:
        sentence += f"; its Krum score is {own_score / last_kept:.3g} times that of the last one selected"
    return sentence


def _size(norm: float, typical: float) -> str:
    if typical == 0:
        return "changes the model, the selected ones do not"
    return f"is {norm / typical:.2g} times as large as the selected ones"


def _cosine_to_mean(position: int, kept: Sequence[int], norms: torch.Tensor, distances: torch.Tensor) -> float | None:
    """Cosine of one update to the mean of the selected; from <a,b> = (|a|^2 + |b|^2 - |a-b|^2) / 2."""
    products = (norms[:, None] ** 2 + norms[None, :] ** 2 - distances) / 2
    mean_norm = math.sqrt(max(0.0, float(products[kept][:, kept].mean())))
    own_norm = float(norms[position])
    if mean_norm == 0 or own_norm == 0:
        return None
    return float(products[position, kept].mean()) / (mean_norm * own_norm)
