"""What is looked at before any distance: finite values, a sane norm, honest counts and sound BatchNorm statistics.

An update that fails here has proved its sender faulty, whatever the others sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

ABSURD_NORM_FACTOR = 100.0  # times the median norm: no honest training of the same model for the same epochs does that


def faults(
    norms: torch.Tensor,
    samples: Sequence[int],
    buffers: Sequence[Mapping[str, torch.Tensor]],
    *,
    each_alone: bool = False,
) -> list[str | None]:
    """Return for every update why it is rejected before scoring, or None; `norms`  # (n,) float64.

    With `each_alone` no update is held against the others: what one sends then never decides whether another counts.
    """
    finite = norms[norms.isfinite()]
    median = float(finite.median()) if len(finite) and not each_alone else math.nan
    return [
        _norm_fault(float(norm), median) or _count_fault(count) or _buffer_fault(tensors)
        for norm, count, tensors in zip(norms, samples, buffers, strict=True)
    ]


def _norm_fault(norm: float, median: float) -> str | None:
    if not math.isfinite(norm):
        return "its update holds values that are not finite (NaN or infinity)"
    # beside a median of 0 any update is infinitely large, and the one that learned may be the honest one
    if norm > ABSURD_NORM_FACTOR * median and median > 0:
        return (
            f"its update is {norm / median:.3g} times as large as the median update, {ABSURD_NORM_FACTOR:g} is absurd"
        )
    return None


def _count_fault(samples: int) -> str | None:
    return None if samples > 0 else "it claims to have trained on no sample"


def _buffer_fault(buffers: Mapping[str, torch.Tensor]) -> str | None:
    for name, values in buffers.items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            return f"its BatchNorm statistics {name} are not finite"
        # 0 is honest: the variance of a dead channel decays to it
        if name.endswith("running_var") and not bool((values >= 0).all()):
            return f"its BatchNorm variances {name} are negative"
        if not values.is_floating_point() and not bool((values >= 0).all()):
            return f"its counter {name} is negative"
    return None
