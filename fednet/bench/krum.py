"""Krum beside its limits: distances and whole Multi-Krum, next to one bare matrix product and the loop over pairs."""

from __future__ import annotations

import functools
import itertools
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fednet.aggregation.blocks import weighted_sum
from fednet.aggregation.rows import Rows, TensorRows
from fednet.aggregation.rules.registry import recipe_named
from fednet.aggregation.rules.rule import context_of
from fednet.aggregation.survey import survey
from fednet.bench.machine import machine
from fednet.bench.memory import available_bytes, peak_bytes
from fednet.bench.rates import copy_rate, multiply_rate, plain_float32, seconds
from fednet.errors import BadInput

_MOST_OF_MEMORY = 0.6  # the rest is for others, and for what the reference itself needs

_PAIRS_A_REPEAT = 20  # of the loop over pairs: all 4,950 of n = 100 would take minutes, each as long as the next


Measured = dict[str, Any]
MEANING = {
    "ours": "s: all distances as the coordinator computes them (norms, centred products, checks)",
    "reference": "s: the floor, one bare float32 X @ X.T with everything in memory; nothing is centred or checked",
    "ratio": "ours / reference, of the medians; best_ratio is of the shortest of each",
    "whole": "s: distances, Multi-Krum's plan and the weighted sum",
    "pairs": "s: a Python loop over all pairs of float32 norms of differences; pairs_timed of them, scaled up",
    "peak_bytes": "most memory beyond the input; for the whole also beyond its result, the step of 4 x dim bytes",
    "seconds": "medians of interleaved repeats in one process",
}


@dataclass(frozen=True, kw_only=True)
class KrumBench:
    """What is to be measured."""

    workers: tuple[int, ...]
    dim: int
    device: torch.device
    repeats: int = 5

    def __post_init__(self) -> None:
        if not self.workers or min(self.workers) < 3:
            given = ",".join(map(str, self.workers))
            raise BadInput("--workers", found=given or "none", expected="counts from 3, such as 10,32,100")


def byzantine_of(count: int) -> int:
    """Return the largest f that Krum's condition n >= 2f + 3 allows."""
    return (count - 3) // 2


def bench_in_memory(bench: KrumBench, *, notice: Callable[[str], None]) -> Measured:
    """Measure with all updates in memory; raises `BadInput` where they would not fit."""
    for count in bench.workers:
        _check_memory(count, bench)
    runs = []
    for count in bench.workers:
        notice(f"n = {count}: making {count} updates of {bench.dim:,} numbers, then {bench.repeats} repeats")
        runs.append(_in_memory(count, bench))
    return document(bench, runs, source="memory", meaning=MEANING)


def document(bench: KrumBench, runs: list[Measured], *, source: str, meaning: dict[str, str]) -> Measured:
    """Return the bench's JSON document of the runs, one for each count of workers."""
    last = runs[-1]
    return {
        "bench": "krum",
        "machine": machine(),
        "settings": {
            "workers": list(bench.workers),
            "dim": bench.dim,
            "device": str(bench.device),
            "threads": torch.get_num_threads(),
            "repeats": bench.repeats,
            "source": source,
        },
        "samples": {str(run["workers"]): run["samples"] for run in runs},
        "ours": last["ours"],
        "reference": last["reference"],
        "ratio": last["ratio"],
        "runs": [{key: value for key, value in run.items() if key != "samples"} for run in runs],
        "meaning": {**meaning, "top level": "ours, reference and ratio are those of the last count of workers"},
    }


def _in_memory(count: int, bench: KrumBench) -> Measured:
    device = bench.device
    updates = honest_updates(count, bench.dim, device)
    rows = TensorRows(updates)
    works: dict[str, Callable[[], object]] = {
        "floor": lambda: updates @ updates.T,
        "distances": lambda: distances(rows, device),
        "whole": lambda: multikrum(rows, device),
    }
    peaks = {key: peak_of(works[key], rows, device) for key in ("distances", "whole")}
    if device.type == "cpu":
        peaks["whole"] = max(0, peaks["whole"] - 4 * bench.dim)
    pairs = _pairs_of(count)
    samples: dict[str, list[float]] = {key: [] for key in (*works, "pairs")}
    with plain_float32():
        for repeat in range(bench.repeats):
            for key, work in works.items():
                samples[key].append(seconds(work, device))
            part = pairs[repeat * _PAIRS_A_REPEAT : (repeat + 1) * _PAIRS_A_REPEAT] or pairs[:_PAIRS_A_REPEAT]
            loop = functools.partial(_loop, updates, part)
            samples["pairs"].append(seconds(loop, device) / len(part) * len(pairs))
    found = summary(count, samples, ours="distances", reference="floor") | {
        "best_ratio": min(samples["distances"]) / min(samples["floor"]),
        "pairs_timed": min(len(pairs), bench.repeats * _PAIRS_A_REPEAT),
        "pairs_in_all": len(pairs),
        "faster_than_pairs": statistics.median(samples["pairs"]) / statistics.median(samples["distances"]),
        "input_bytes": updates.nbytes,
        "peak_bytes": peaks,
        "peak_share": {key: value / updates.nbytes for key, value in peaks.items()},
    }
    return found | (_device_limit(found, updates) if device.type == "cuda" else {})


def summary(count: int, samples: dict[str, list[float]], *, ours: str, reference: str) -> Measured:
    """Return what every run has: medians of the samples, in s, and their ratio."""
    medians = {key: statistics.median(values) for key, values in samples.items()}
    return {
        "workers": count,
        "byzantine": byzantine_of(count),
        "ours": medians[ours],
        "reference": medians[reference],
        "ratio": medians[ours] / medians[reference],
        "seconds": medians,
        "samples": samples,
    }


def distances(rows: Rows, device: torch.device) -> torch.Tensor:
    """Return all squared distances  # (n, n) float64, as the coordinator computes them."""
    return survey(rows, device).geometry_of(range(rows.count)).squared_distances()


def multikrum(rows: Rows, device: torch.device) -> torch.Tensor:
    """Return Multi-Krum's step  # (dim,) float32 of updates that claim as many samples each."""
    geometry = survey(rows, device).geometry_of(range(rows.count))
    plan = recipe_named("multikrum").plan(geometry, context_of(rows.count, byzantine=byzantine_of(rows.count)))
    return weighted_sum(rows, plan.weights[0], device)


def _pairs_of(count: int) -> list[tuple[int, int]]:
    """Return all pairs in an order drawn once: rows that follow each other would still lie in the cache."""
    pairs = list(itertools.combinations(range(count), 2))
    random.Random(0).shuffle(pairs)  # noqa: S311 - an order, no secret
    return pairs


def _loop(updates: torch.Tensor, pairs: list[tuple[int, int]]) -> list[float]:
    return [float(torch.linalg.vector_norm(updates[i] - updates[j])) for i, j in pairs]


def honest_updates(count: int, dim: int, device: torch.device) -> torch.Tensor:
    """Return updates as of honest workers  # (count, dim) float32: a common direction, and noise of half its size."""
    generator = torch.Generator(device).manual_seed(0)
    common = torch.empty(dim, device=device).normal_(generator=generator)
    updates = torch.empty(count, dim, device=device)
    for row in updates:
        row.normal_(generator=generator).mul_(0.5).add_(common).mul_(1e-3)
    return updates


def peak_of(work: Callable[[], object], rows: Rows, device: torch.device, *, resident: bool = False) -> int:
    """Return the peak of `work`; what libraries set up at their first call, once a process, is not counted."""
    multikrum(TensorRows(torch.ones(rows.count, 2, device=device)), device)
    return peak_bytes(work, torch.device("cpu") if resident else device)


def _check_memory(count: int, bench: KrumBench) -> None:
    on_device = bench.device.type == "cuda"
    free = torch.cuda.mem_get_info(bench.device)[0] if on_device else available_bytes()
    needed = 4 * count * bench.dim
    if needed > _MOST_OF_MEMORY * free:
        raise BadInput(
            f"{count} updates of {bench.dim:,} numbers",
            found=f"{needed / 2**30:.1f} GiB, of {free / 2**30:.1f} GiB available on {bench.device}",
            expected=f"at most {_MOST_OF_MEMORY:.0%} of that",
            todo="measure with --from-spool, or fewer --workers or a smaller --dim",
        )


def _device_limit(found: Measured, updates: torch.Tensor) -> Measured:
    """Return the device's own limit: its memory read once, or its float32 units busy with all products."""
    copying, multiplying = copy_rate(updates.device), multiply_rate(updates.device)
    flops = 2 * updates.shape[0] ** 2 * updates.shape[1]
    limit = max(updates.nbytes / copying, flops / multiplying)
    return {
        "copy_bytes_per_s": copying,
        "float32_flops_per_s": multiplying,
        "limit": limit,
        "limit_ratio": found["ours"] / limit,
    }
