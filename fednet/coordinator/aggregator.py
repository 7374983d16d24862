"""From spooled updates to the next global model: reads files, lets the pure aggregation decide, applies the step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fednet.aggregation.private import claim_of, recipe_of
from fednet.aggregation.server_optimizer import FRESH, ServerState, server_step
from fednet.aggregation.strategy import NOBODY, Outcome, Trust, UpdateFacts, aggregate
from fednet.aggregation.team import ALONE, Team
from fednet.config import RunSettings, WorkerName, derived_seed
from fednet.coordinator.crew import announce, awaited, shared_trust
from fednet.coordinator.desk import DeliveredUpdate
from fednet.errors import AggregationError
from fednet.reporting.run_view import MOST_DISTANCES
from fednet.reporting.scaling import classical_scaling
from fednet.storage.spool import SpoolRows, read_spooled
from fednet.tensors import Manifest, applied, buffer_views, empty_flat

TrustIn = Callable[[torch.Tensor, int], Trust]
"""The coordinator's own root of trust for a round: of (global model  # uint8 flat, round)."""

Release = Callable[[torch.Tensor, int], tuple[torch.Tensor, dict[str, Any]]]
"""Makes a step public under client-level differential privacy: of (step  # (d,) float32, how many were clipped).

Returns (the step with its noise, what the round's record says of it); coordinator.privacy_ledger.
"""

MOST_MAPPED = 1000  # updates in a map: 0.1 s of one core, eight times that for twice as many


@dataclass(frozen=True)
class Combined:
    """A round's new global model and how it came about."""

    model: torch.Tensor  # (total_bytes,) uint8
    outcome: Outcome
    quarantined: frozenset[WorkerName]
    server: ServerState  # what the server's optimiser remembers after it
    privacy: dict[str, Any] | None = None  # what the step's noise has spent, where it has any
    map: list[list[float]] | None = None  # the scored updates in the plane, as of `mapped`

    def document(self, delivered: Mapping[WorkerName, DeliveredUpdate]) -> dict[str, Any]:
        """Return what the run's record keeps of the aggregation; plain JSON types."""
        return {
            "updates": [
                {
                    "worker": verdict.worker,
                    "selected": verdict.selected,
                    "reason": verdict.reason,
                    "score": _finite(verdict.score),
                    "norm": _finite(verdict.norm),
                    "weight": verdict.weight,
                    "cosine": verdict.cosine,
                    "kept": verdict.kept,
                    "quarantined": verdict.worker in self.quarantined,
                    "samples": delivered[verdict.worker].samples,
                    "train_s": delivered[verdict.worker].train_s,
                    "loss": None if delivered[verdict.worker].epsilon else delivered[verdict.worker].loss,
                    "epsilon": delivered[verdict.worker].epsilon or None,
                    "delta": delivered[verdict.worker].delta or None,
                    "arrived_s": delivered[verdict.worker].arrived_s,
                    "nbytes": delivered[verdict.worker].nbytes,
                    "sha256": delivered[verdict.worker].sha256,
                    "fingerprint": delivered[verdict.worker].fingerprint,
                }
                for verdict in self.outcome.verdicts
            ],
            "byzantine": self.outcome.byzantine_effective,
            "aggregation": {
                "scored": list(self.outcome.scored),
                "cut": _finite(self.outcome.cut),
                "note": self.outcome.note,
                "squared_distances": self._distances(),
                **({"map": self.map} if self.map is not None else {}),
            },
            **({"client_privacy": self.privacy} if self.privacy is not None else {}),
        }

    def _distances(self) -> list[list[float]] | None:
        """Return the matrix with seven digits, or None where it is too large to be kept, or tells what noise hides."""
        if len(self.outcome.scored) > MOST_DISTANCES or self.privacy is not None:
            return None
        return [[_seven_digits(value) for value in row] for row in self.outcome.distances.tolist()]


def combine_updates(
    base: torch.Tensor,
    updates: Mapping[WorkerName, DeliveredUpdate],
    *,
    manifest: Manifest,
    settings: RunSettings,
    round_number: int,
    device: torch.device,
    trust_in: TrustIn | None = None,
    team: Team = ALONE,
    quarantined: Mapping[WorkerName, str] = NOBODY,
    resent: Mapping[WorkerName, str] = NOBODY,
    server: ServerState = FRESH,
    release: Release | None = None,
) -> Combined:
    """Return the new global model (a new buffer; `base`  # (total_bytes,) uint8 is not changed).

    Updates are read in the order of their workers' names. Raises `AggregationError` when they cannot be aggregated
    safely, `StorageError` when one cannot be read. The first process of a `team` tells the others what to do here.
    Where the run keeps client-level privacy, only a step that went through `release` is private.
    """
    if team.rank == 0:
        announce(team, round_number, updates, quarantined, resent)
    recipe, is_private = recipe_of(settings), settings.client_privacy.is_on
    trust = None if trust_in is None else trust_in(base, round_number)
    if team.size > 1 and recipe.rule.needs_root:
        trust = shared_trust(team, trust, width=manifest.parameter_count)
    workers = sorted(updates)
    paths = [updates[worker].path for worker in workers]
    rows = SpoolRows(paths, width=manifest.parameter_count)
    try:
        outcome = aggregate(
            [UpdateFacts(worker, claim_of(updates[worker].samples, is_private=is_private)) for worker in workers],
            rows,
            [_buffers(path, manifest) for path in paths],
            recipe=recipe,
            byzantine=settings.byzantine,
            device=device,
            seed=derived_seed(settings.seed, "aggregation", round_number),
            trust=trust,
            team=team,
            quarantined=quarantined,
            resent=resent,
        )
    finally:
        rows.close()
    step, told = outcome.step, None
    if release is not None:
        step, told = release(step, clipped_in(outcome))
    step, after = server_step(step, server, settings.server)
    model = applied(base, step, outcome.buffers, manifest)
    return Combined(model, outcome, frozenset(quarantined), after, told)


def clipped_in(outcome: Outcome) -> int:
    """Return how many updates of a round were clipped."""
    return sum(verdict.kept is not None and verdict.kept < 1 for verdict in outcome.verdicts)


def mapped(combined: Combined) -> Combined:
    """Return it with where the scored updates lie in the plane, if they are too many for their distances to be kept.

    There is no map of more than `MOST_MAPPED`, nor under client-level privacy. It is for the record alone.
    """
    outcome = combined.outcome
    if combined.privacy is not None or not MOST_DISTANCES < len(outcome.scored) <= MOST_MAPPED:
        return combined
    points = classical_scaling(outcome.distances.numpy())
    return replace(combined, map=[[_seven_digits(x), _seven_digits(y)] for x, y in points])


def _seven_digits(value: float) -> float:
    return float(f"{value:.7g}")


def model_with(
    base: torch.Tensor,
    combined: Combined,
    update: DeliveredUpdate,
    *,
    manifest: Manifest,
    settings: RunSettings,
    server: ServerState = FRESH,
) -> torch.Tensor:
    """Return the round's model if this update, which was rejected, had counted as much as a selected one.

    `server`: what the server's optimiser remembered before the round.
    """
    outcome = combined.outcome
    others = sum(verdict.selected for verdict in outcome.verdicts)
    own = torch.empty(manifest.parameter_bytes, dtype=torch.uint8)
    read_spooled(update.path, own, offset=0)
    step = outcome.step + (own.view(torch.float32) - outcome.step) / (others + 1)
    return applied(base, server_step(step, server, settings.server)[0], outcome.buffers, manifest)


def _buffers(path: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    tail = torch.empty(manifest.total_bytes - manifest.buffers_start, dtype=torch.uint8)
    read_spooled(path, tail, offset=manifest.buffers_start)
    return buffer_views(tail, manifest)


def help_aggregate(team: Team, *, manifest: Manifest, settings: RunSettings, device: torch.device) -> None:
    """Be one of the processes that help the first: aggregate its rounds until it says that they are over."""
    nothing = empty_flat(manifest)
    while (task := awaited()) is not None:
        number, updates, quarantined, resent = task
        with contextlib.suppress(AggregationError):  # the first process meets the same, and says so
            combine_updates(
                nothing,
                updates,
                manifest=manifest,
                settings=settings,
                round_number=number,
                device=device,
                team=team,
                quarantined=quarantined,
                resent=resent,
            )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
