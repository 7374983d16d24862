"""From spooled updates to the next global model: reads files, lets the pure aggregation decide, applies the step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fednet.aggregation.strategy import Outcome, UpdateFacts, aggregate
from fednet.config import RunSettings, WorkerName
from fednet.coordinator.desk import DeliveredUpdate
from fednet.storage.spool import SpoolRows, read_spooled
from fednet.tensors import Manifest, buffer_views, parameters_of, views


@dataclass(frozen=True)
class Combined:
    """A round's new global model and how it came about."""

    model: torch.Tensor  # (total_bytes,) uint8
    outcome: Outcome

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
                    "samples": delivered[verdict.worker].samples,
                    "train_s": delivered[verdict.worker].train_s,
                    "loss": delivered[verdict.worker].loss,
                    "sha256": delivered[verdict.worker].sha256,
                }
                for verdict in self.outcome.verdicts
            ],
            "byzantine": self.outcome.byzantine_effective,
        }


def combine_updates(
    base: torch.Tensor,
    updates: Mapping[WorkerName, DeliveredUpdate],
    *,
    manifest: Manifest,
    settings: RunSettings,
    device: torch.device,
) -> Combined:
    """Return the new global model (a new buffer; `base`  # (total_bytes,) uint8 is not changed).

    Raises `AggregationError` when the updates cannot be aggregated safely, `StorageError` when one cannot be read.
    """
    paths = [update.path for update in updates.values()]
    rows = SpoolRows(paths, width=manifest.parameter_count)
    try:
        outcome = aggregate(
            [UpdateFacts(worker, update.samples) for worker, update in updates.items()],
            rows,
            [_buffers(path, manifest) for path in paths],
            rule=settings.aggregator,
            byzantine=settings.byzantine,
            device=device,
        )
    finally:
        rows.close()
    return Combined(_applied(base, outcome, manifest), outcome)


def _buffers(path: Path, manifest: Manifest) -> dict[str, torch.Tensor]:
    tail = torch.empty(manifest.total_bytes - manifest.buffers_start, dtype=torch.uint8)
    read_spooled(path, tail, offset=manifest.buffers_start)
    return buffer_views(tail, manifest)


def _applied(base: torch.Tensor, outcome: Outcome, manifest: Manifest) -> torch.Tensor:
    model = base.clone()
    parameters_of(model, manifest).add_(outcome.step.cpu())
    tensors = views(model, manifest)
    for name, value in outcome.buffers.items():
        tensors[name].copy_(value)
    return model


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
