"""IPM: push the mean's inner product with the true direction below zero, with an update too small to stand out."""

from __future__ import annotations

from fednet.simulate.attacks import crowd
from fednet.simulate.attacks.sight import Attack, Sight, Submission, with_deltas


def ipm(name: str, *, scale: float = 0.1) -> Attack:
    """Send, from all, -scale / (n - m) * sum of the n - m honest deltas.

    Source: Xie, Koyejo, Gupta, "Fall of Empires: Breaking Byzantine-tolerant SGD by Inner Product Manipulation", UAI
    2020, where scale is epsilon: small ones fool Krum and medians, those above (n - m) / m turn a plain mean around.
    """

    def poison(sight: Sight) -> list[Submission]:
        delta = crowd.mean(sight.known) * -scale
        return with_deltas(sight.own, [delta] * len(sight.own))

    return Attack(name=name, poison=poison, sees_others=True)
