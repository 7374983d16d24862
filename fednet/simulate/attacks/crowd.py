"""What several updates are like together: mean, spread and inner products, a block of columns at a time in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

_BLOCK_COLUMNS = 2**16  # memory beyond the updates stays at n x 512 KiB


def mean(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean  # (d,) float32 of rows  # n of (d,)."""
    result = torch.empty_like(rows[0])
    for place, block in _blocks(rows):
        result[place] = block.mean(dim=0)
    return result


def deviation(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the standard deviation of every coordinate  # (d,) float32, dividing by n: 0 for a single row."""
    result = torch.empty_like(rows[0])
    for place, block in _blocks(rows):
        result[place] = block.std(dim=0, correction=0)
    return result


def products(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return all inner products  # (n, n) float64."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for _, block in _blocks(rows):
        total += block @ block.T
    return total


def squared_distances(gram: torch.Tensor) -> torch.Tensor:
    """Return |x_i - x_j|^2  # (n, n) float64 from all inner products  # (n, n) float64."""
    squares = gram.diagonal()
    return (squares[:, None] + squares[None, :] - 2 * gram).clamp(min=0.0).fill_diagonal_(0.0)


def _blocks(rows: Sequence[torch.Tensor]) -> Iterator[tuple[slice, torch.Tensor]]:
    for start in range(0, len(rows[0]), _BLOCK_COLUMNS):
        place = slice(start, start + _BLOCK_COLUMNS)
        yield place, torch.stack([row[place] for row in rows]).double()
