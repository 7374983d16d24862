"""The passes over the data: norms, Gram matrix and weighted sum, each by column blocks in O(n x block) memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch

from fednet.aggregation.rows import Rows

_CPU_BLOCK_BYTES = 2**22  # of one block: it stays in the processor's cache between reading and multiplying
_CUDA_BLOCK_BYTES = 2**28
_FEWEST_COLUMNS = 2**12  # of a block, however many rows: a read from disk of 16 KiB a row
_EXACT_COLUMNS = 2**14  # more float32 products in one sum cost digits: 3e-7 at 2^14, 2e-5 at 2^18 (n = 10)
_PLAIN_NORMS = (1e-6, 1e6)  # products of such updates neither vanish nor overflow in float32
_MOST_DOUBLINGS = 126  # 2^126 and 2^-126 are plain float32 numbers


def block_width(count: int, device: torch.device) -> int:
    """Return how many columns of `count` rows are handled at a time."""
    block_bytes = _CUDA_BLOCK_BYTES if device.type == "cuda" else _CPU_BLOCK_BYTES
    return max(_FEWEST_COLUMNS, block_bytes // (4 * max(1, count)))


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
        # in float64: a norm must neither overflow at 1e30 nor vanish at 1e-30
        squares += torch.linalg.vector_norm(block, dim=1, dtype=torch.float64).square()
    return squares.sqrt().cpu()


def median_row(norms: torch.Tensor) -> int:
    """Return the row of median norm (of an even number the lower one), the first of equals; `norms`  # (n,), finite."""
    return int(torch.sort(norms, stable=True).indices[(len(norms) - 1) // 2])


def gram_matrix(rows: Rows, norms: torch.Tensor, device: torch.device, *, width: int | None = None) -> torch.Tensor:
    """Return the Gram matrix of all rows minus their row of median norm  # (n, n) float64 on the CPU, symmetric.

    `norms`  # (n,) float64: of these rows, finite. Products are float32 (never TF32) in short sums, which add up in
    float64. Centring on a common row keeps the digits of distances between updates that lie close together; it
    changes no distance.
    """
    centre = median_row(norms)
    scale = _scale(float(norms[centre]))
    gram = torch.zeros(rows.count, rows.count, dtype=torch.float64, device=device)
    with _full_float32():
        for _, block in blocks(rows, device, width=width):
            if scale != 1.0:
                block.mul_(scale)
            block.sub_(block[centre].clone())
            for piece in torch.split(block, _EXACT_COLUMNS, dim=1):
                gram += (piece @ piece.T).double()
    gram = gram.cpu() / scale**2
    return (gram + gram.T) / 2


def _scale(norm: float) -> float:
    """Return the power of two that makes tiny or huge updates of this norm fit to be multiplied in float32."""
    if norm == 0 or _PLAIN_NORMS[0] <= norm <= _PLAIN_NORMS[1]:
        return 1.0
    _, exponent = math.frexp(norm)
    return 2.0 ** max(-_MOST_DOUBLINGS, min(_MOST_DOUBLINGS, -exponent))


def squared_distances(gram: torch.Tensor) -> torch.Tensor:
    """Return |x_i - x_j|^2 from a Gram matrix  # (n, n) float64, its own diagonal as norms, clamped at 0."""
    norms = gram.diagonal()
    distances = (norms[:, None] + norms[None, :] - 2 * gram).clamp_(min=0.0)
    return distances.fill_diagonal_(0.0)


def weighted_sum(
    rows: Rows, coefficients: torch.Tensor, device: torch.device, *, width: int | None = None
) -> torch.Tensor:
    """Return sum_i coefficients[i] * row_i  # (width,) float32 on the CPU.

    Rows are added in float64 in their order, one after another: the bits do not depend on how many threads there are.
    """
    total = torch.empty(rows.width, dtype=torch.float32)
    used = [(index, value) for index, value in enumerate(coefficients.tolist()) if value != 0.0]
    for start, block in blocks(rows, device, width=width):
        part = torch.zeros(block.shape[1], dtype=torch.float64, device=device)
        for index, value in used:
            part.add_(block[index], alpha=value)
        total[start : start + block.shape[1]] = part.float().cpu()
    return total


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Multiply float32 matrices in float32: neither in TF32 (CUDA) nor in bfloat16 (CPU), whatever is set outside."""
    # torch puts an object that has `matmul` in the place of its module `mkldnn`, which mypy cannot see
    on_cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    settings = (torch.backends.cuda.matmul, on_cpu)
    before = [each.fp32_precision for each in settings]
    for each in settings:
        each.fp32_precision = "ieee"
    try:
        yield
    finally:
        for each, value in zip(settings, before, strict=True):
            each.fp32_precision = value
