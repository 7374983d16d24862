"""Sorting every column of a block at once, by a network of minima and maxima: no index, no branch, all in cache.

Source: Batcher, "Sorting Networks and their Applications", AFIPS 1968 (odd-even merge sort).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch


def sorted_columns(block: torch.Tensor) -> list[torch.Tensor]:
    """Return the rows of `block`  # (m, width), each column sorted: m tensors  # (width,), the least first."""
    rows = list(block.clone())
    spare = torch.empty_like(rows[0]) if rows else block
    for low, high in network(len(rows)):
        torch.minimum(rows[low], rows[high], out=spare)
        torch.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    return rows


@cache
def network(count: int) -> tuple[tuple[int, int], ...]:
    """Return the pairs to be compared, in order, to sort `count` values."""
    return tuple(_comparisons(count))


def _comparisons(count: int) -> Iterator[tuple[int, int]]:
    run = 1
    while run < count:
        step = run
        while step >= 1:
            for start in range(step % run, count - step, 2 * step):
                for low in range(start, min(start + step, count - step)):
                    if low // (2 * run) == (low + step) // (2 * run):
                        yield low, low + step
            step //= 2
        run *= 2
