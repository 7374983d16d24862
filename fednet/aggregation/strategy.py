"""KRUMFedAvg: checks, the recipe (Multi-Krum by default), the step that it plans, and a verdict for everybody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from fednet.aggregation.blocks import products_with, reduced, weighted_sum
from fednet.aggregation.buffers import median_buffers, voters
from fednet.aggregation.checks import faults
from fednet.aggregation.explain import Findings, rejection, twins
from fednet.aggregation.geometry import Geometry
from fednet.aggregation.recipe import Recipe
from fednet.aggregation.rows import ChosenRows, Rows, StackedRows, TensorRows
from fednet.aggregation.rules.rule import Context, Plan, Root
from fednet.aggregation.survey import Survey, survey
from fednet.aggregation.team import ALONE, Team
from fednet.config import WorkerName
from fednet.errors import AggregationError

NOBODY: Mapping[WorkerName, str] = {}
COUNTED_SHARE = 0.1  # of an even share: an update that weighs less than this does not count as selected


@dataclass(frozen=True)
class UpdateFacts:
    """What is known of an update beside its values."""

    worker: WorkerName
    samples: int  # as the worker claims


@dataclass(frozen=True, kw_only=True)
class Trust:
    """The coordinator's root of trust: its own update, and the loss of a candidate model on its own scans."""

    update: torch.Tensor  # (d,) float32
    loss: Callable[[torch.Tensor, Mapping[str, torch.Tensor]], float]  # of a step (d,) and BatchNorm statistics
    gradient: Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]  # (d,) float32, of that loss


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one worker's update, and why, in words a hospital understands."""

    worker: WorkerName
    selected: bool
    reason: str
    score: float | None
    norm: float
    weight: float  # share of the step, 0 to 1
    cosine: float | None  # to the mean of the selected
    kept: float | None = None  # the share of its norm that clipping left it, 0 to 1; None: nothing clips


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a round's aggregation."""

    step: torch.Tensor  # (d,) float32, to be added to the global parameters
    buffers: dict[str, torch.Tensor]
    verdicts: tuple[Verdict, ...]  # by worker name
    distances: torch.Tensor  # (n, n) float64, squared, of the updates that were scored, by worker name
    scored: tuple[WorkerName, ...]
    byzantine_effective: int
    cut: float | None  # the worst score that was selected, where the rule ranks
    note: str  # for the record: a tournament's winner, workers that sent the same update


def aggregate(
    updates: Sequence[UpdateFacts],
    rows: Rows,
    buffers: Sequence[Mapping[str, torch.Tensor]],
    *,
    recipe: Recipe,
    byzantine: int,
    device: torch.device,
    seed: int = 0,
    trust: Trust | None = None,
    team: Team = ALONE,
    quarantined: Mapping[WorkerName, str] = NOBODY,
    resent: Mapping[WorkerName, str] = NOBODY,
) -> Outcome:
    """Combine a round's updates (`rows`  # n parameter deltas; `buffers`: each worker's BatchNorm statistics).

    The result does not depend on the order of the arguments: everything is arranged by worker name first. Updates of
    the `quarantined` are left out for the reason given; where too few are left then, f is lowered for them. What was
    `resent` is faulty, and so are copies that a screen finds, but for one of them. Of a `team` every process calls this
    with the same updates, and gets the same. Raises `AggregationError` when more than f updates are faulty (copies of
    this round aside: counted once they have lost their force), or too few are left for the recipe.
    """
    order = sorted(range(len(updates)), key=lambda index: updates[index].worker)
    updates = [updates[index] for index in order]
    buffers = [buffers[index] for index in order]
    rows = ChosenRows(rows, order)
    found = survey(rows if trust is None else StackedRows(rows, TensorRows(trust.update[None])), device, team=team)
    norms = found.norms[: len(updates)]
    complaints = faults(norms, [update.samples for update in updates], buffers, each_alone=recipe.is_private)
    complaints = [complaint or resent.get(update.worker) for update, complaint in zip(updates, complaints, strict=True)]
    byzantine = _remaining_byzantine(updates, complaints, byzantine)
    complaints = [
        complaint or quarantined.get(update.worker) for update, complaint in zip(updates, complaints, strict=True)
    ]
    sound = [index for index, complaint in enumerate(complaints) if complaint is None]
    _tolerable(recipe, len(sound), byzantine, quarantined)  # before any distance
    geometry, root = _geometry(found, sound, has_root=trust is not None)
    screened = recipe.screened(geometry, [updates[index].worker for index in sound], byzantine)
    remarks = {updates[sound[place]].worker: text for place, text in screened.remarks.items()}
    for place, complaint in screened.rejected.items():
        complaints[sound[place]] = complaint
    places = [place for place in range(len(sound)) if place not in screened.rejected]
    sound, geometry, root = [sound[place] for place in places], geometry.only(places), root and root.only(places)
    byzantine = _tolerable(recipe, len(sound), max(0, byzantine - len(screened.rejected)), quarantined)
    work = _Work(ChosenRows(rows, sound), [buffers[index] for index in sound], byzantine, device, team)
    claims = torch.tensor([float(updates[index].samples) for index in sound], dtype=torch.float64)
    plan = recipe.plan(
        geometry,
        Context(
            byzantine=byzantine,
            claims=claims,
            seed=seed,
            root=root,
            trial=None if trust is None else lambda plan: trust.loss(work.step(plan), work.statistics(plan)),
            slopes=None if trust is None else lambda plan: work.slopes(plan, trust),
        ),
    )
    findings = Findings(
        geometry,
        norms[sound],
        plan,
        selected=selected_by(plan),
        shares=shares_of(plan, unshrunk=recipe.is_private),
        tells_of_others=not recipe.is_private,
    )
    scored = tuple(updates[index].worker for index in sound)
    return Outcome(
        step=work.step(plan),
        buffers=work.statistics(plan),
        verdicts=_verdicts(updates, norms, complaints, sound, findings, remarks),
        distances=geometry.squared_distances(),
        scored=scored,
        byzantine_effective=byzantine,
        cut=findings.cut,
        note="; ".join(filter(None, [screened.note, plan.note, twins(findings, scored, byzantine)])),
    )


def shares_of(plan: Plan, *, unshrunk: bool = False) -> torch.Tensor:
    """Return how much of the step is each update's  # (n,) float64, summing to 1 where anything counts at all.

    Of a coordinate-wise rule the share that each update has in the values the rule looks at. `unshrunk`: as if nothing
    had been clipped.
    """
    weights = plan.unshrunk if unshrunk and plan.unshrunk is not None else plan.weights
    weights = weights.clamp(min=0.0).sum(dim=0)
    total = float(weights.sum())
    return weights / total if total > 0 else weights


def selected_by(plan: Plan) -> list[int]:
    """Return which updates count: those the rule takes whole, or those with more than a tenth of an even share.

    One that was clipped hard counts as much as the others: its share is what it had before.
    """
    if plan.selected is not None:
        return sorted(plan.selected)
    shares = shares_of(plan, unshrunk=True)
    return [index for index, share in enumerate(shares.tolist()) if share > COUNTED_SHARE / len(shares)]


class _Work:
    """Makes steps and statistics of one round's sound updates."""

    def __init__(
        self,
        rows: Rows,
        buffers: Sequence[Mapping[str, torch.Tensor]],
        byzantine: int,
        device: torch.device,
        team: Team,
    ) -> None:
        self._rows, self._buffers = rows, buffers
        self._byzantine, self._device, self._team = byzantine, device, team
        self._last: tuple[Plan, torch.Tensor] | None = None

    def step(self, plan: Plan) -> torch.Tensor:
        """Return the planned step  # (d,) float32; that of the plan asked for last is kept: it takes a pass."""
        if self._last is None or self._last[0] is not plan:
            self._last = plan, self._made(plan)
        return self._last[1]

    def _made(self, plan: Plan) -> torch.Tensor:
        reduce, device = plan.reduce, self._device
        if reduce is None:
            return self._team.whole(lambda rows: weighted_sum(rows, plan.weights[0], device), self._rows)
        return self._team.whole(lambda rows: reduced(rows, plan.weights, reduce, device), self._rows)

    def slopes(self, plan: Plan, trust: Trust) -> torch.Tensor:
        """Return how fast the loss of the planned model grows with each update's coefficient  # (n,) float64."""
        gradient = trust.gradient(self.step(plan), self.statistics(plan))
        return products_with(self._rows, gradient, self._device, team=self._team)

    def statistics(self, plan: Plan) -> dict[str, torch.Tensor]:
        """Return the BatchNorm statistics that go with it."""
        heard = voters(selected_by(plan), count=self._rows.count, byzantine=self._byzantine)
        return median_buffers([self._buffers[index] for index in heard])


def _geometry(found: Survey, sound: Sequence[int], *, has_root: bool) -> tuple[Geometry, Root | None]:
    if not has_root:
        return found.geometry_of(sound), None
    own = len(found.norms) - 1
    whole = found.geometry_of([*sound, own])
    root = Root(products=whole.products()[-1, :-1], norm=float(found.norms[own]))
    return whole.only(range(len(sound))), root


def _tolerable(recipe: Recipe, count: int, byzantine: int, quarantined: Mapping[WorkerName, str]) -> int:
    """Return the f that so many sound updates are enough for, lower than asked for the quarantined alone."""
    byzantine = recipe.tolerated(count, most=byzantine, least=max(0, byzantine - len(quarantined)))
    shortfall = recipe.shortfall(count, byzantine)
    if shortfall is not None:
        raise AggregationError(f"{shortfall} sound ones left")
    return byzantine


def _remaining_byzantine(updates: Sequence[UpdateFacts], complaints: Sequence[str | None], byzantine: int) -> int:
    faulty = [update.worker for update, complaint in zip(updates, complaints, strict=True) if complaint is not None]
    if byzantine and len(faulty) > byzantine:
        raise AggregationError(
            f"{len(faulty)} updates are faulty, f = {byzantine} is what this run tolerates: {', '.join(faulty)}",
            faulty=faulty,
        )
    return max(0, byzantine - len(faulty))


def _verdicts(
    updates: Sequence[UpdateFacts],
    norms: torch.Tensor,
    complaints: Sequence[str | None],
    sound: Sequence[int],
    findings: Findings,
    remarks: Mapping[WorkerName, str],
) -> tuple[Verdict, ...]:
    place = {index: position for position, index in enumerate(sound)}
    verdicts = []
    for index, (update, complaint) in enumerate(zip(updates, complaints, strict=True)):
        bare = Verdict(
            worker=update.worker, selected=False, reason="", score=None, norm=float(norms[index]), weight=0, cosine=None
        )
        if complaint is not None:
            verdicts.append(replace(bare, reason=f"rejected before scoring: {complaint}"))
            continue
        position = place[index]
        is_selected = position in findings.selected
        reason = "selected" if is_selected else rejection(position, findings)
        verdicts.append(
            replace(
                bare,
                selected=is_selected,
                reason="; ".join(filter(None, [reason, remarks.get(update.worker)])),
                score=findings.score(position),
                weight=float(findings.shares[position]),
                cosine=findings.cosine(position) if findings.tells_of_others else None,
                kept=None if findings.plan.kept is None else float(findings.plan.kept[position]),
            )
        )
    return tuple(verdicts)
