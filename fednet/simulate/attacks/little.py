"""ALIE, "a little is enough": shift every coordinate by as much as still finds supporters among the honest."""

from __future__ import annotations

from statistics import NormalDist

from fednet.simulate.attacks import crowd
from fednet.simulate.attacks.sight import Attack, Sight, Submission, with_deltas

FALLBACK_Z = 0.25  # what the formula gives for a fifth of attackers (n = 25, m = 5)


def alie(name: str, *, z: float | None = None) -> Attack:
    """Send, from all, mean - z * standard deviation of the honest deltas, coordinate by coordinate.

    Source: Baruch, Baruch, Goldberg, "A Little Is Enough: Circumventing Defenses For Distributed Learning", NeurIPS
    2019. z is `largest_z` unless given.
    """

    def poison(sight: Sight) -> list[Submission]:
        attackers = len(sight.own)
        chosen = largest_z(attackers + len(sight.honest), attackers) if z is None else z
        delta = crowd.mean(sight.known) - chosen * crowd.deviation(sight.known)
        return with_deltas(sight.own, [delta] * attackers)

    return Attack(name=name, poison=poison, sees_others=True)


def largest_z(count: int, attackers: int) -> float:
    """Return the paper's z for n workers with m attackers: Phi^-1((n - m - s) / (n - m)), s = floor(n / 2 + 1) - m.

    s is how many honest workers must lie further out than the attackers for those to be in the majority. Attackers who
    are the majority need none, and z would be infinite: they then leave one outside. Where few attackers need more than
    half of the honest (n = 10, m = 2, say), z is 0 or negative: they would send the honest mean, or help. They then
    take `FALLBACK_Z`, which is ours and not the paper's.
    """
    honest = count - attackers
    supporters = max(1, count // 2 + 1 - attackers)
    inside = honest - supporters
    if 2 * inside <= honest:
        return FALLBACK_Z
    return NormalDist().inv_cdf(inside / honest)
