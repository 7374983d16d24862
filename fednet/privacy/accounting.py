"""What differential privacy has spent, by Opacus' RDP accountant; and of client-level rounds, every hospital in each.

Rounds compose as Gaussian mechanisms of one multiplier; a sample rate of 1 claims nothing for sampling (Mironov, "Renyi
Differential Privacy", CSF 2017).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

_FARTHER_ORDERS = [1 + 2.0**-k for k in range(4, 24)] + [float(2**k) for k in range(6, 24)]
"""Beyond the orders that Opacus tries by itself, 1.1 to 63: very little noise, or very much, is accounted at these."""


def spent(history: Sequence[tuple[float, float, int]], *, delta: float) -> float:
    """Return the epsilon that these mechanisms spend together; 0 for none.

    Each: (standard deviation of the noise over the sensitivity, sample rate, how often).
    """
    if not history:
        return 0.0
    from opacus.accountants import RDPAccountant  # it brings much with it: only where there is something to account

    accountant = RDPAccountant()
    accountant.history = list(history)
    is_sampled = any(rate < 1 for _, rate, _ in history)  # there an order costs as many terms as it is large
    farther = [] if is_sampled else _FARTHER_ORDERS
    with warnings.catch_warnings():
        # an epsilon holds at whatever order: the best one tried being the last is no harm
        warnings.filterwarnings("ignore", message="Optimal order is the (largest|smallest) alpha")
        return float(accountant.get_epsilon(delta, alphas=[*RDPAccountant.DEFAULT_ALPHAS, *farther]))


@functools.lru_cache(maxsize=4096)
def epsilon_after(releases: int, *, multiplier: float, delta: float) -> float:
    """Return the epsilon that so many noised steps have spent at this delta; 0 for none.

    `multiplier`: the noise's standard deviation over the step's sensitivity.
    """
    return spent([(multiplier, 1.0, releases)] if releases else [], delta=delta)


def affordable(epsilon: float, *, multiplier: float, delta: float, most: int) -> int:
    """Return how many releases, `most` at most, spend no more than this."""
    fits, too_many = 0, most + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if epsilon_after(middle, multiplier=multiplier, delta=delta) <= epsilon:
            fits = middle
        else:
            too_many = middle
    return fits
