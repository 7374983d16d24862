"""BatchNorm statistics: the coordinate-wise median of the voters', because no distance has looked at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


def voters(selected: Sequence[int], *, count: int, byzantine: int) -> list[int]:
    """Return, in order, whose statistics the median is taken of: the selected, or all `count` updates.

    An attacker whose parameters are clean is selected, so a median protects only where the honest are the majority:
    among more than 2f selected, else among all n >= 2f + 3 (Krum selects one; Multi-Krum n - f, which is 2f at n = 3f).
    """
    return sorted(selected) if len(selected) > 2 * byzantine else list(range(count))


def median_buffers(buffers: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the coordinate-wise median of every buffer; of an even number the mean of the two in the middle.

    Integer counters take the lower of the two, so they stay integers somebody counted.
    """
    return {name: _median(torch.stack([each[name] for each in buffers])) for name in buffers[0]}


def _median(stacked: torch.Tensor) -> torch.Tensor:
    lower = stacked.median(dim=0).values
    if not stacked.is_floating_point():
        return lower
    upper = -((-stacked).median(dim=0).values)
    return (lower + upper) / 2
