"""Updates as rows of a matrix that need not be in memory: read by column blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch


class Rows(Protocol):
    """n updates of d float32 coordinates each."""

    count: int  # n
    width: int  # d

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Fill `out`  # (count, stop - start) float32 on the CPU, with columns start to stop of every row."""


class TensorRows:
    """Rows that are in memory already."""

    def __init__(self, matrix: torch.Tensor) -> None:
        """`matrix`  # (n, d) float32."""
        self._matrix = matrix
        self.count, self.width = int(matrix.shape[0]), int(matrix.shape[1])

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Copy the columns."""
        out.copy_(self._matrix[:, start:stop])


class ChosenRows:
    """Some rows of others, in a given order."""

    def __init__(self, rows: Rows, chosen: Sequence[int]) -> None:
        self._rows = rows
        self._chosen = torch.tensor(chosen, dtype=torch.long)
        self.count, self.width = len(chosen), rows.width
        self._is_all = list(chosen) == list(range(rows.count))

    def read(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Read all columns and pass on the chosen rows."""
        if self._is_all:
            self._rows.read(start, stop, out)
            return
        block = torch.empty(self._rows.count, stop - start)
        self._rows.read(start, stop, block)
        torch.index_select(block, 0, self._chosen, out=out)
