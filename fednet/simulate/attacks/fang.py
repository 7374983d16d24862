"""Fang's attack on Krum: the longest step against the honest direction that Krum still selects."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fednet.aggregation.rules.krum import krum_scores
from fednet.simulate.attacks import crowd
from fednet.simulate.attacks.own_update import gaussian
from fednet.simulate.attacks.sight import Attack, Sight, Submission, with_deltas

_NEARNESS = 1e-4  # the other attackers' distance to the first, of its norm
_LEAST_STRENGTH = 1e-5  # of the first strength tried: the paper's threshold, which there is absolute


def fang(name: str) -> Attack:
    """Send -lambda * s, s = sign of the honest mean, from one attacker, and close copies of it from the others.

    lambda starts at the paper's upper bound and is halved until Krum would select an attacker, or it is 1e-5 of the
    start. Then the last one is sent although Krum rejects it: attackers are too few, or the honest lie closer to each
    other than to the global model, which in deltas is the origin. Source: Fang, Cao, Jia, Gong, "Local Model Poisoning
    Attacks to Byzantine-Robust Federated Learning", USENIX Security 2020. Full knowledge where the honest are seen,
    otherwise partial.
    """
    return Attack(name=name, poison=_against_krum, sees_others=True)


def _against_krum(sight: Sight) -> list[Submission]:
    direction = crowd.mean(sight.known).sign()
    gram = crowd.products([*sight.known, direction])
    delta = direction * -_strength(gram, attackers=len(sight.own), byzantine=sight.byzantine)
    return with_deltas(sight.own, [delta, *_copies(delta, len(sight.own) - 1, sight.generator)])


def _copies(delta: torch.Tensor, count: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    norm = _NEARNESS * float(delta.norm())
    for _ in range(count):
        yield delta + gaussian(delta, norm=norm, generator=generator)


def _strength(gram: torch.Tensor, *, attackers: int, byzantine: int) -> float:
    """Return lambda from the inner products of the honest and, as the last row, s."""
    first = strength = _upper_bound(gram, attackers)
    while strength > first * _LEAST_STRENGTH and not _is_selected(strength, gram, attackers, byzantine):
        strength /= 2
    return strength


def _upper_bound(gram: torch.Tensor, attackers: int) -> float:
    """Return the bound of the paper's Theorem 1, with n workers, c attackers and d coordinates:

    sqrt(min_i sum of the n - c - 2 least |x_i - x_l|^2 / ((n - 2c - 1) d)) + max_i |x_i| / sqrt(d).
    """
    among = gram[:-1, :-1]
    moved = max(1.0, float(gram[-1, -1]))  # coordinates in which the honest mean moves; the paper's d has no others
    spread = float(krum_scores(crowd.squared_distances(among), 0).min())
    outvoted = max(1, len(among) - attackers - 1)
    return float((spread / (outvoted * moved)) ** 0.5 + (among.diagonal().max() / moved).sqrt())


def _is_selected(strength: float, gram: torch.Tensor, attackers: int, byzantine: int) -> bool:
    """Whether Krum scores an attacker strictly best: ties would go by name."""
    honest = len(gram) - 1
    norm = strength * float(gram[-1, -1]) ** 0.5
    to_honest = gram.diagonal()[:-1] + 2 * strength * gram[:-1, -1] + norm**2
    distances = torch.empty(attackers + honest, attackers + honest, dtype=torch.float64)
    distances[:attackers, :attackers] = (2 * _NEARNESS * norm) ** 2
    distances[:attackers, attackers:] = to_honest.clamp(min=0.0)
    distances[attackers:, :attackers] = to_honest.clamp(min=0.0)[:, None]
    distances[attackers:, attackers:] = crowd.squared_distances(gram[:-1, :-1])
    scores = krum_scores(distances, byzantine)
    return bool(scores[:attackers].min() < scores[attackers:].min())
