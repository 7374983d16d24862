"""Every rule again, on the updates themselves, in float64 and by loops: what the Gram-space rules are compared with."""

from __future__ import annotations

import math

import torch


def krum_scores(x: torch.Tensor, f: int) -> list[float]:
    """Sum of the n - f - 2 smallest squared distances to others."""
    scores = []
    for i in range(len(x)):
        others = sorted(float((x[i] - x[j]).square().sum()) for j in range(len(x)) if j != i)
        scores.append(sum(others[: max(0, len(x) - f - 2)]))
    return scores


def order(values: list[float]) -> list[int]:
    return sorted(range(len(values)), key=lambda i: (values[i], i))


def krum(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    return x[order(krum_scores(x, f))[0]]


def multikrum(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    return x[order(krum_scores(x, f))[: len(x) - f]].mean(dim=0)


def fedavg(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=0)


def geometric_median(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    z = x.mean(dim=0)
    for _ in range(20_000):
        distances = (x - z).norm(dim=1)
        if float(distances.median()) == 0:
            return z
        weights = 1 / distances.clamp(min=1e-6 * float(distances.median()))
        z = (weights[:, None] * x).sum(dim=0) / weights.sum()
    return z


def centered_clipping(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    v = torch.zeros_like(x[0])
    for _ in range(5):
        distances = [float((row - v).norm()) for row in x]
        tau = float(torch.tensor(distances, dtype=torch.float64).median())
        v = v + sum((row - v) * (min(1.0, tau / d) if d else 1.0) for row, d in zip(x, distances, strict=True)) / len(x)
    return v


def cosines(x: torch.Tensor, g: torch.Tensor) -> list[float]:
    return [float(row @ g / (row.norm() * g.norm())) if row.norm() * g.norm() else 0.0 for row in x]


def fltrust(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    trust = [max(0.0, c) for c in cosines(x, g)]
    if sum(trust) == 0:
        return torch.zeros_like(g)
    return sum((t * g.norm() / row.norm() * row for t, row in zip(trust, x, strict=True) if t), 0 * g) / sum(trust)


def cosine_filter(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    return x[order([-c for c in cosines(x, g)])[: len(x) - f]].mean(dim=0)


def guarded_multikrum(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    chosen = x[order(krum_scores(x, f))[: len(x) - f]]
    trust = [max(0.0, c) for c in cosines(chosen, g)]
    if sum(trust) == 0:
        return chosen.mean(dim=0)
    return sum((t * row for t, row in zip(trust, chosen, strict=True)), 0 * g) / sum(trust)


def median(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    return x.quantile(0.5, dim=0)


def trimmed_mean(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    return x.sort(dim=0).values[f : len(x) - f].mean(dim=0)


def bulyan(x: torch.Tensor, f: int, g: torch.Tensor) -> torch.Tensor:
    left = list(range(len(x)))
    chosen: list[int] = []
    while len(chosen) < len(x) - 2 * f:
        chosen.append(left.pop(order(krum_scores(x[left], f))[0]))
    kept = x[chosen]
    middle = kept.quantile(0.5, dim=0)
    step = torch.empty_like(middle)
    for k in range(x.shape[1]):
        nearest = sorted(kept[:, k].tolist(), key=lambda value: abs(value - float(middle[k])))
        step[k] = sum(nearest[: len(kept) - 2 * f]) / (len(kept) - 2 * f)
    return step


def nnm(x: torch.Tensor, f: int) -> torch.Tensor:
    mixed = []
    for i in range(len(x)):
        distances = [(-1.0 if i == j else float((x[i] - x[j]).norm())) for j in range(len(x))]
        mixed.append(x[order(distances)[: len(x) - f]].mean(dim=0))
    return torch.stack(mixed)


def norm_clipping(x: torch.Tensor, f: int) -> torch.Tensor:
    tau = float(x.norm(dim=1).median())
    return torch.stack([row * min(1.0, tau / float(row.norm())) if row.norm() else row for row in x])


def arc(x: torch.Tensor, f: int) -> torch.Tensor:
    k = math.floor(2 * f / len(x) * (len(x) - f) + 1e-9)
    bound = sorted((float(row.norm()) for row in x), reverse=True)[k]
    return torch.stack([row * min(1.0, bound / float(row.norm())) if row.norm() else row for row in x])
