"""The passes over the data: norms, Gram matrix and weighted sum, each by column blocks in O(n x block) memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from fednet.aggregation.rows import Rows

_CPU_BLOCK_BYTES = 2**25  # of one block: small beside n updates, large enough for a matrix product
_CUDA_BLOCK_BYTES = 2**28
_CPU_MOST_COLUMNS = 2**18  # a row of a block, in float64 too, stays in the processor's cache


def block_width(count: int, device: torch.device) -> int:
    """Return how many columns of `count` rows are handled at a time."""
    if device.type == "cuda":
        return max(1024, _CUDA_BLOCK_BYTES // (4 * max(1, count)))
    return min(_CPU_MOST_COLUMNS, max(1024, _CPU_BLOCK_BYTES // (4 * max(1, count))))


def blocks(rows: Rows, device: torch.device, *, width: int | None = None) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first column, block  # (count, at most width) float32 on `device`).

    A block is valid until the next one is asked for.
    """
    width = width or block_width(rows.count, device)
    is_cuda = device.type == "cuda"
    staging = torch.empty(rows.count * min(width, max(1, rows.width)), pin_memory=is_cuda)
    for start in range(0, rows.width, width):
        stop = min(start + width, rows.width)
        block = staging[: rows.count * (stop - start)].view(rows.count, stop - start)
        rows.read(start, stop, block)
        yield start, block.to(device) if is_cuda else block


def row_norms(rows: Rows, device: torch.device, *, width: int | None = None) -> torch.Tensor:
    """Return every row's Euclidean norm  # (count,) float64 on the CPU; not finite where a coordinate is not."""
    squares = torch.zeros(rows.count, dtype=torch.float64, device=device)
    for _, block in blocks(rows, device, width=width):
        # float64, row by row: a norm must neither overflow at 1e30 nor vanish at 1e-30
        squares += torch.stack([row.double().square().sum() for row in block])
    return squares.sqrt().cpu()


def gram_matrix(rows: Rows, device: torch.device, *, centre: int, width: int | None = None) -> torch.Tensor:
    """Return the Gram matrix of all rows minus row `centre`  # (count, count) float64 on the CPU, symmetric.

    Products are float32 (never TF32) within a block, sums over blocks float64. Centring on a common row keeps the
    digits of distances between updates that lie close together; it changes no distance.
    """
    gram = torch.zeros(rows.count, rows.count, dtype=torch.float64, device=device)
    with _full_float32():
        for _, block in blocks(rows, device, width=width):
            block.sub_(block[centre].clone())
            gram += (block @ block.T).double()
    gram = gram.cpu()
    return (gram + gram.T) / 2


def squared_distances(gram: torch.Tensor) -> torch.Tensor:
    """Return |x_i - x_j|^2 from a Gram matrix  # (n, n) float64, its own diagonal as norms, clamped at 0."""
    norms = gram.diagonal()
    distances = (norms[:, None] + norms[None, :] - 2 * gram).clamp_(min=0.0)
    return distances.fill_diagonal_(0.0)


def weighted_sum(
    rows: Rows, coefficients: torch.Tensor, device: torch.device, *, width: int | None = None
) -> torch.Tensor:
    """Return sum_i coefficients[i] * row_i  # (width,) float32 on the CPU.

    Rows are added in their order, one after another, so the bits do not depend on how many threads there are.
    """
    total = torch.empty(rows.width, dtype=torch.float32)
    used = [(index, value) for index, value in enumerate(coefficients.tolist()) if value != 0.0]
    for start, block in blocks(rows, device, width=width):
        part = torch.zeros(block.shape[1], dtype=torch.float32, device=device)
        for index, value in used:
            part.add_(block[index], alpha=value)
        total[start : start + block.shape[1]] = part.cpu()
    return total


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
