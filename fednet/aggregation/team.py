"""Processes that share a round's columns: each looks at a range, and the sums of all are added (`torchrun`).

Every process calls the same functions with the same updates; each reads only its own columns of them, wherever they
lie. Products and norms are sums over columns, so adding them up is all it takes; a step is put together from its parts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed

from fednet.aggregation.rows import ColumnsOf, Rows


class Team:
    """One process of `size`, the `rank`-th. Tensors travel by torch.distributed's default group, on the CPU."""

    def __init__(self, *, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def part(self, rows: Rows) -> Rows:
        """Return this process's columns."""
        return rows if self.size == 1 else ColumnsOf(rows, *self._span(rows.width))

    def added(self, part: torch.Tensor) -> torch.Tensor:
        """Return the sum of all processes' tensors (the same bits for everybody); `part` is overwritten."""
        if self.size > 1:
            torch.distributed.all_reduce(part)
        return part

    def told(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the first process's tensor in all of them; the others' is overwritten."""
        if self.size > 1:
            torch.distributed.broadcast(tensor, src=0)
        return tensor

    def whole(self, work: Callable[[Rows], torch.Tensor], rows: Rows) -> torch.Tensor:
        """Return `work(rows)`  # (width,) float32, each process having worked on its own columns."""
        if self.size == 1:
            return work(rows)
        start, stop = self._span(rows.width)
        total = torch.zeros(rows.width)
        total[start:stop] = work(self.part(rows))
        return self.added(total)  # the others hold 0 there, and adding 0 changes no bit

    def _span(self, width: int) -> tuple[int, int]:
        return width * self.rank // self.size, width * (self.rank + 1) // self.size


ALONE = Team(rank=0, size=1)
