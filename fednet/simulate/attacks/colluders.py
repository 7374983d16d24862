"""Colluders: f + 1 attackers send one update, f + 1 times: one more than any rule here promises to withstand."""

from __future__ import annotations

import torch

from fednet.simulate.attacks import crowd
from fednet.simulate.attacks.sight import Attack, Sight, Submission


def colluders(name: str) -> Attack:
    """Send, from all, -u * r for the mean direction u of their own deltas and the mean r of their norms.

    Identical updates are each other's nearest neighbours at distance 0, which is what Krum counts (Blanchard et al.,
    NeurIPS 2017, promise nothing beyond f attackers). Buffers are those of the first attacker.
    """
    return Attack(name=name, poison=_agreed, extra_attackers=1)


def _agreed(sight: Sight) -> list[Submission]:
    deltas = [each.delta for each in sight.own]
    direction = crowd.mean(deltas)
    length = float(direction.norm())
    norm = sum(float(delta.norm()) for delta in deltas) / len(deltas)
    delta = direction * (-norm / length) if length > 0 else torch.zeros_like(direction)
    shared = sight.own[0].buffers
    return [Submission(delta=delta, buffers=shared, samples=each.samples) for each in sight.own]
