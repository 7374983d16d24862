"""How much privacy steps of DP-SGD spend, by Opacus's accountant of Rényi differential privacy.

Mironov, "Rényi Differential Privacy", CSF 2017; Mironov, Talwar & Zhang, "Rényi Differential Privacy of the Sampled
Gaussian Mechanism", 2019. Neighbours are data that differ by one scan, which one of them has and the other has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fednet.privacy.accounting import spent
from fednet.worker.privacy_ledger import SiteMechanism

_TOLERANCE = 0.01  # of epsilon: as Opacus's `get_noise_multiplier`
_LEAST_NOISE, _MOST_NOISE = 0.1, 1e4  # in clips: less noise spends epsilons of hundreds, more drowns every step


def epsilon_of(mechanisms: Sequence[SiteMechanism], *, delta: float) -> float:
    """Return the epsilon that all of these together spend; 0.0 for none."""
    steps: dict[tuple[float, float], int] = {}  # of those that are alike: hundreds of rounds, accounted in an instant
    for each in mechanisms:
        alike = (each.noise_multiplier, each.sample_rate)
        steps[alike] = steps.get(alike, 0) + each.steps
    return spent([(*alike, total) for alike, total in steps.items()], delta=delta)


def noise_multiplier_for(
    sample_rate: float, steps: int, *, epsilon: float, delta: float, before: Sequence[SiteMechanism] = ()
) -> float | None:
    """Return the least noise by which so many steps spend, with what was spent `before`, at most `epsilon`.

    To a hundredth of epsilon, as Opacus's `get_noise_multiplier`, which knows of nothing before. None where no noise
    is enough, or all but that hundredth was spent: a training would be noise alone.
    """
    if epsilon - epsilon_of(before, delta=delta) <= _TOLERANCE:
        return None

    def spent_by(noise: float) -> float:
        return epsilon_of([*before, replace(planned, noise_multiplier=noise)], delta=delta)

    planned = SiteMechanism(noise_multiplier=_MOST_NOISE, sample_rate=sample_rate, steps=steps)
    low, high = _LEAST_NOISE, 2 * _LEAST_NOISE
    while (found := spent_by(high)) > epsilon:
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            return None
    while epsilon - found > _TOLERANCE and high - low > 1e-6 * high:
        middle = (low + high) / 2
        if (tried := spent_by(middle)) <= epsilon:
            high, found = middle, tried
        else:
            low = middle
    return high
