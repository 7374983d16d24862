"""A coordinator of several processes (`torchrun`): the first one serves, all of them aggregate.

What the first tells the others is JSON in tensors over torch.distributed (gloo): the round and where its updates lie,
on a disk that all can read. Each then runs the same aggregation over its own columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fednet import torchrun
from fednet.aggregation.strategy import Trust
from fednet.aggregation.team import ALONE, Team
from fednet.config import WorkerName
from fednet.coordinator.desk import DeliveredUpdate


def join_team() -> Team:
    """Return this process's place among those that torchrun has started, or `ALONE`."""
    rank, size = torchrun.join()
    return ALONE if size == 1 else Team(rank=rank, size=size)


def announce(
    team: Team,
    round_number: int,
    updates: Mapping[WorkerName, DeliveredUpdate],
    quarantined: Mapping[WorkerName, str],
    resent: Mapping[WorkerName, str],
) -> None:
    """Tell the others which updates to aggregate now, and whose of them to leave out."""
    described = {worker: asdict(update) | {"path": str(update.path)} for worker, update in updates.items()}
    left_out = {"quarantined": dict(quarantined), "resent": dict(resent)}
    _tell(team, {"round": round_number, "updates": described, **left_out})


def dismiss(team: Team) -> None:
    """Tell the others that the run is over for them."""
    _tell(team, {})


Told = tuple[int, dict[WorkerName, DeliveredUpdate], dict[WorkerName, str], dict[WorkerName, str]]
"""(round, its updates, whose are quarantined and why, whose were sent again and why)."""


def awaited() -> Told | None:
    """Return the round to aggregate when the first process announces one; None when it dismisses us."""
    document = torchrun.heard()
    if not document:
        return None
    updates = {
        WorkerName(worker): DeliveredUpdate(**each | {"path": Path(each["path"])})
        for worker, each in document["updates"].items()
    }
    return document["round"], updates, document["quarantined"], document["resent"]


def shared_trust(team: Team, own: Trust | None, *, width: int) -> Trust:
    """Return the first process's trust for all of them: `own` is given there alone."""
    update = team.told(torch.zeros(width) if own is None else own.update.clone())

    def loss(step: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> float:
        found = 0.0 if own is None else own.loss(step, buffers)
        return float(team.told(torch.tensor([found], dtype=torch.float64)))

    def gradient(step: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return team.told(torch.zeros(width) if own is None else own.gradient(step, buffers))

    return Trust(update=update, loss=loss, gradient=gradient)


def _tell(team: Team, document: dict[str, Any]) -> None:
    if team.size > 1:
        torchrun.tell(document)
