"""Rounds as attackers see them, made up for tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fednet.simulate.attacks.sight import Attack, Sight, Submission

WIDTH = 60


def submission(delta: torch.Tensor, *, samples: int = 40) -> Submission:
    """Return an update with the statistics of one BatchNorm layer."""
    buffers = {
        "bn.running_mean": torch.tensor([0.5, -1.0]),
        "bn.running_var": torch.tensor([4.0, 0.25]),
        "bn.num_batches_tracked": torch.tensor(7),
    }
    return Submission(delta=delta, buffers=buffers, samples=samples)


def deltas(count: int, *, seed: int = 0, width: int = WIDTH) -> list[torch.Tensor]:
    """Return updates that agree in part: one common direction, and as much of their own."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(width, generator=generator)
    return [common + torch.randn(width, generator=generator) for _ in range(count)]


def sight_of(honest: Sequence[torch.Tensor], own: Sequence[torch.Tensor], *, seed: int = 0) -> Sight:
    """Return what attackers see of these updates; they are as many as the coordinator tolerates."""
    return Sight(
        honest=[submission(delta) for delta in honest],
        own=[submission(delta) for delta in own],
        byzantine=len(own),
        memory={},
        generator=torch.Generator().manual_seed(seed),
    )


def sight(honest: int = 8, attackers: int = 3, *, seed: int = 0) -> Sight:
    """Return a round of that many workers."""
    drawn = deltas(honest + attackers, seed=seed)
    return sight_of(drawn[:honest], drawn[honest:], seed=seed)


def sent(attack: Attack, seen: Sight) -> torch.Tensor:
    """Return the deltas that are sent  # (attackers, d)."""
    return torch.stack([each.delta for each in attack.poison(seen)])


def stacked(updates: Sequence[Submission]) -> torch.Tensor:
    """Return the deltas as rows  # (n, d) float64."""
    return torch.stack([each.delta for each in updates]).double()
