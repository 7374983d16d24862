"""What every rule is given and gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Context:
    """What a rule may know beside the updates themselves."""

    byzantine: int  # f, after faulty updates were taken out


@dataclass(frozen=True)
class Selection:
    """Which updates a rule keeps, best first, and the scores it went by (lower is better)."""

    selected: tuple[int, ...]
    scores: torch.Tensor | None  # (n,) float64, None for a rule that keeps everybody


@dataclass(frozen=True)
class Rule:
    """One aggregation rule; `needs(f)` is the fewest updates it is defined for."""

    name: str
    needs: Callable[[int], int]
    select: Callable[[torch.Tensor, Context], Selection]  # squared distances (n, n) float64
