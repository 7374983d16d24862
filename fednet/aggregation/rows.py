"""Updates as rows of a matrix that need not be in memory: looked at by column blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch


class Rows(Protocol):
    """n updates of d float32 coordinates each."""

    @property
    def count(self) -> int:
        """Return n."""

    @property
    def width(self) -> int:
        """Return d."""

    def block(self, start: int, stop: int, staging: torch.Tensor) -> torch.Tensor:
        """Return columns start to stop of every row  # (count, stop - start) float32, not to be changed.

        Rows that are in memory are returned where they lie; others are read into `staging`, of the same shape, on the
        CPU, and stay valid until it is used again.
        """


class TensorRows:
    """Rows that are in memory already, on any device."""

    def __init__(self, matrix: torch.Tensor) -> None:
        """`matrix`  # (n, d) float32."""
        self._matrix = matrix
        self.count, self.width = int(matrix.shape[0]), int(matrix.shape[1])

    def block(self, start: int, stop: int, staging: torch.Tensor) -> torch.Tensor:
        """Return a view."""
        return self._matrix[:, start:stop]


class SeparateRows:
    """Rows that are in memory, each on its own: what virtual hospitals have trained, never copied into one matrix."""

    def __init__(self, rows: Sequence[torch.Tensor]) -> None:
        """`rows`  # n of (d,) float32, on the CPU."""
        self._rows = list(rows)
        self.count, self.width = len(self._rows), len(self._rows[0])

    def block(self, start: int, stop: int, staging: torch.Tensor) -> torch.Tensor:
        """Copy the columns into `staging`."""
        return torch.stack([row[start:stop] for row in self._rows], out=staging)


class ChosenRows:
    """Some rows of others, in a given order."""

    def __init__(self, rows: Rows, chosen: Sequence[int]) -> None:
        self._rows = rows
        self._chosen = list(chosen)
        self.count, self.width = len(chosen), rows.width
        self._is_all = self._chosen == list(range(rows.count))

    def block(self, start: int, stop: int, staging: torch.Tensor) -> torch.Tensor:
        """Look at all rows and pass on the chosen ones."""
        if self._is_all:
            return self._rows.block(start, stop, staging)
        block = self._rows.block(start, stop, torch.empty(self._rows.count, stop - start))
        return block[self._chosen]


class ColumnsOf:
    """A range of the columns of others: what one process of several looks at."""

    def __init__(self, rows: Rows, start: int, stop: int) -> None:
        self._rows = rows
        self._start = start
        self.count, self.width = rows.count, stop - start

    def block(self, start: int, stop: int, staging: torch.Tensor) -> torch.Tensor:
        """Look at these columns of the others."""
        return self._rows.block(self._start + start, self._start + stop, staging)


class StackedRows:
    """Rows of others, and below them rows of others still: the workers' updates and the coordinator's own."""

    def __init__(self, upper: Rows, lower: Rows) -> None:
        self._upper, self._lower = upper, lower
        self.count, self.width = upper.count + lower.count, upper.width

    def block(self, start: int, stop: int, staging: torch.Tensor) -> torch.Tensor:
        """Look at both."""
        for rows, part in ((self._upper, staging[: self._upper.count]), (self._lower, staging[self._upper.count :])):
            found = rows.block(start, stop, part)
            if found.data_ptr() != part.data_ptr():
                part.copy_(found)
        return staging
