"""Mimic: all attackers copy one honest worker, the same over rounds, so that unlike hospitals lose their say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from fednet.simulate.attacks import crowd
from fednet.simulate.attacks.sight import Attack, Sight, Submission

_DIRECTION = "direction"  # z  # (d,) float32, of norm 1
_CENTRE = "centre"  # mu  # (d,) float32, the mean of all rounds' means
_ROUNDS = "rounds"  # t  # () int64
_REACHED = "reached"  # sum over rounds of z . x_i  # (honest,) float64

_POWER_STEPS = 5  # a round; the paper has one, and thousands of rounds


def mimic(name: str) -> Attack:
    """Send, from all, a copy of the honest worker i* = argmax_i |sum_t z . x_i^t|.

    z is the direction of largest variance among the honest, learned over rounds by online power iteration (Oja):
    z <- t / (t + 1) z + 1 / (t + 1) v / |v| with v = sum_i (x_i - mu) ((x_i - mu) . z), then of norm 1 again. Source:
    Karimireddy, He, Jaggi, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022, whose
    attackers learn by one step in each of many rounds and stop after a warm-up; these take a few steps a round and go
    on, and the sum makes their choice settle all the same.
    """
    return Attack(name=name, poison=_copied, sees_others=True)


def _copied(sight: Sight) -> list[Submission]:
    deltas = sight.known
    _learn(deltas, sight.memory, sight.generator)
    direction = sight.memory[_DIRECTION]
    reached = torch.tensor([float(delta @ direction) for delta in deltas], dtype=torch.float64)
    before = sight.memory.get(_REACHED)
    if before is not None and len(before) == len(reached):  # with other workers, what was reached is nobody's
        reached = reached + before
    sight.memory[_REACHED] = reached
    chosen = (sight.honest or sight.own)[int(reached.abs().argmax())]
    return [chosen] * len(sight.own)


def _learn(deltas: Sequence[torch.Tensor], memory: dict[str, torch.Tensor], generator: torch.Generator) -> None:
    if _DIRECTION not in memory:
        drawn = torch.randn(deltas[0].shape, generator=generator)
        memory |= {_DIRECTION: drawn / drawn.norm(), _CENTRE: torch.zeros_like(drawn), _ROUNDS: torch.tensor(0)}
    rounds = int(memory[_ROUNDS])
    memory[_CENTRE] = (rounds * memory[_CENTRE] + crowd.mean(deltas)) / (rounds + 1)
    latest = memory[_DIRECTION]
    for _ in range(_POWER_STEPS):
        latest = _of_norm_one(_spread_along(latest, deltas, memory[_CENTRE]), otherwise=latest)
    mixed = (rounds * memory[_DIRECTION] + latest) / (rounds + 1)
    memory[_DIRECTION] = _of_norm_one(mixed, otherwise=latest)
    memory[_ROUNDS] = torch.tensor(rounds + 1)


def _of_norm_one(vector: torch.Tensor, *, otherwise: torch.Tensor) -> torch.Tensor:
    """Return `vector` with norm 1; where all deltas are alike there is no direction to learn, and the old one stays."""
    length = float(vector.norm())
    return vector / length if 0 < length < math.inf else otherwise


def _spread_along(direction: torch.Tensor, deltas: Sequence[torch.Tensor], centre: torch.Tensor) -> torch.Tensor:
    """Return the covariance of the deltas times `direction`  # (d,), up to a factor."""
    pulled = torch.zeros_like(direction)
    for delta in deltas:
        apart = delta - centre
        pulled += apart * (apart @ direction)
    return pulled
