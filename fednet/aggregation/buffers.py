"""BatchNorm statistics of the selected: the coordinate-wise median, because no distance has looked at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch


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
