"""The passes over the data: geometry, norms, weighted sums and reductions, each by column blocks in O(n x block)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.ranges import over_ranges
from fednet.aggregation.rows import Rows, StackedRows, TensorRows
from fednet.aggregation.team import ALONE, Team

_CPU_BLOCK_BYTES = 2**22  # of one block: it stays in the processor's cache between reading and multiplying
_CUDA_BLOCK_BYTES = 2**28
_WIDE_COLUMNS = 2**17  # read at once for a CPU: a call costs microseconds, a read from disk more, however short the row
_WIDE_BYTES = 2**24  # of all rows together
# More float32 products in one sum cost digits (3e-7 at 2^14, 2e-5 at 2^18, n = 10); many short products side by side
# keep all cores busy; and from disk this is still a read of 16 KiB a row.
_PIECE_COLUMNS = 2**12
_PLAIN_NORMS = (1e-6, 1e6)  # products of such updates neither vanish nor overflow in float32
_MOST_DOUBLINGS = 126  # 2^126 and 2^-126 are plain float32 numbers
_FAR_CENTRE = 4.0  # times the median squared distance: from there on float32 products about it lose digits

Reduction = Callable[[torch.Tensor], torch.Tensor]
"""From a block  # (m, width) float32 to one value a column  # (width,): a coordinate-wise rule."""


def block_width(count: int, device: torch.device) -> int:
    """Return how many columns of `count` rows are handled at a time."""
    block_bytes = _CUDA_BLOCK_BYTES if device.type == "cuda" else _CPU_BLOCK_BYTES
    pieces = block_bytes // (4 * max(1, count) * _PIECE_COLUMNS)
    return max(1, pieces) * _PIECE_COLUMNS


def _wide_width(count: int, device: torch.device) -> int:
    """Return how many columns are read at once by a pass that looks at them one block, or one row, after another."""
    whole = block_width(count, device)
    if device.type == "cuda":
        return whole
    return max(1, min(_WIDE_COLUMNS, _WIDE_BYTES // (4 * max(1, count))) // whole) * whole


def blocks(rows: Rows, device: torch.device, *, width: int | None = None) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first column, block  # (count, at most width) float32 on `device`), not to be changed.

    A block is valid until the next one is asked for.
    """
    width = min(width or block_width(rows.count, device), max(1, rows.width))
    staging = _staging(rows, rows.count * width, device)
    for start in range(0, rows.width, width):
        stop = min(start + width, rows.width)
        buffer = staging.buffer(rows.count * (stop - start)).view(rows.count, stop - start)
        yield start, staging.bring(rows.block(start, stop, buffer))


def geometry_of(
    rows: Rows,
    device: torch.device,
    *,
    centre: int,
    scale: float = 1.0,
    norms: torch.Tensor | None = None,
    width: int | None = None,
    team: Team = ALONE,
) -> tuple[Geometry, torch.Tensor]:
    """Return all rows and the origin as points, and the rows' norms  # (n,) float64: one pass over the data.

    Products are float32 (never TF32) in short sums, which add up in float64. All rows are multiplied by `scale` first
    (a power of two), and centred on the row `centre`: that keeps the digits of distances between updates that lie
    close together, and changes no distance. Norms that are known already are taken as they are.
    """
    width = width or _wide_width(rows.count, device)
    products = torch.zeros(rows.count, rows.count, dtype=torch.float64)
    squares = torch.zeros(rows.count, dtype=torch.float64)

    def look(_: int, columns: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        return _products(columns, device, centre=centre, scale=scale, with_norms=norms is None, width=width)

    with _full_float32():
        room_bytes = _room_bytes(rows.count, width)
        for its_products, its_squares in over_ranges(look, team.part(rows), device, room_bytes=room_bytes):
            products += its_products
            squares += its_squares
    products, squares = team.added(products), team.added(squares)
    norms = squares.sqrt() / scale if norms is None else norms
    return Geometry.about(products / scale**2, norms, centre=centre), norms


def _products(
    rows: Rows, device: torch.device, *, centre: int, scale: float, with_norms: bool, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the products  # (n, n) and, if asked for, the squared norms  # (n,) of the scaled rows, on the CPU."""
    count = rows.count
    products = torch.zeros(count, count, dtype=torch.float64, device=device)
    squares = torch.zeros(count, dtype=torch.float64, device=device)
    at_once = block_width(count, device)
    work = torch.empty(count * min(at_once, rows.width), device=device)
    for _, block in blocks(rows, device, width=width):
        for pieces in _pieces_of(block, at_once):
            room = work[: pieces.numel()].view(pieces.shape)
            scaled = pieces if scale == 1.0 else torch.mul(pieces, scale, out=room)
            if with_norms:
                squares += torch.linalg.vector_norm(scaled, dim=2).double().square().sum(dim=0)
            moved = torch.sub(scaled, scaled[:, centre : centre + 1].clone(), out=room)
            products += torch.bmm(moved, moved.transpose(1, 2)).sum(dim=0, dtype=torch.float64)
    return products.cpu(), squares.cpu()


def _pieces_of(block: torch.Tensor, at_once: int) -> Iterator[torch.Tensor]:
    """Yield all columns of a block as views  # (pieces, n, columns of a piece), at most `at_once` columns in each."""
    for start in range(0, block.shape[1], at_once):
        part = block[:, start : start + at_once]
        count, rest = divmod(part.shape[1], _PIECE_COLUMNS)
        if count:
            full = part[:, : count * _PIECE_COLUMNS]
            yield torch.unflatten(full, 1, (count, _PIECE_COLUMNS)).transpose(0, 1)
        if rest:
            yield part[None, :, count * _PIECE_COLUMNS :]


def row_norms(rows: Rows, device: torch.device, *, width: int | None = None, team: Team = ALONE) -> torch.Tensor:
    """Return every row's Euclidean norm  # (count,) float64 on the CPU; not finite where a coordinate is not."""
    width = width or block_width(rows.count, device)

    def squares(block: torch.Tensor) -> torch.Tensor:
        # in float64: a norm must neither overflow at 1e30 nor vanish at 1e-30
        norms: torch.Tensor = torch.linalg.vector_norm(block, dim=1, dtype=torch.float64)
        return norms.square()

    room_bytes = _room_bytes(rows.count, width)
    total = _summed(squares, rows, device, count=rows.count, width=width, room_bytes=room_bytes, team=team)
    return total.sqrt()


def first_norms(rows: Rows, device: torch.device) -> torch.Tensor:
    """Return the norms of the first block's columns alone  # (count,) float64: enough to guess a good centre."""
    for _, block in blocks(rows, device):
        norms: torch.Tensor = torch.linalg.vector_norm(block, dim=1, dtype=torch.float64).cpu()
        return norms
    return torch.zeros(rows.count, dtype=torch.float64)


def median_row(norms: torch.Tensor) -> int:
    """Return the row of median norm (of an even number the lower one), the first of equals; `norms`  # (n,).

    What is not finite counts as the largest.
    """
    ranked = torch.sort(norms.nan_to_num(nan=math.inf), stable=True).indices
    finite = max(1, int(norms.isfinite().sum()))
    return int(ranked[(finite - 1) // 2])


def are_plain(norms: torch.Tensor) -> bool:
    """Whether float32 products of rows of these norms neither vanish nor overflow.

    Beside rows of plain norms one of norm 0 does no harm, even if it is only too small for float32.
    """
    moved = norms[norms != 0]
    return len(moved) > 0 and bool(((moved >= _PLAIN_NORMS[0]) & (moved <= _PLAIN_NORMS[1])).all())


def scale_for(norm: float) -> float:
    """Return the power of two that makes tiny or huge updates of this norm fit to be multiplied in float32."""
    if norm == 0 or _PLAIN_NORMS[0] <= norm <= _PLAIN_NORMS[1]:
        return 1.0
    _, exponent = math.frexp(norm)
    return 2.0 ** max(-_MOST_DOUBLINGS, min(_MOST_DOUBLINGS, -exponent))


def is_far(centre: int, geometry: Geometry) -> bool:
    """Whether the common row lies so far from the others that their distances may have lost digits."""
    squares = geometry.squared_distances()
    return float(squares[centre].median()) > _FAR_CENTRE * float(squares.median(dim=1).values.median())


def products_with(rows: Rows, vector: torch.Tensor, device: torch.device, *, team: Team = ALONE) -> torch.Tensor:
    """Return <row_i, vector> of every row  # (n,) float64 on the CPU; `vector`  # (d,) float32, anywhere."""
    stacked = StackedRows(rows, TensorRows(vector.cpu()[None]))
    width = _wide_width(stacked.count, device)
    room_bytes = 2 * _room_bytes(stacked.count, width)

    def products(block: torch.Tensor) -> torch.Tensor:
        return (block[:-1] * block[-1]).sum(dim=1, dtype=torch.float64)

    return _summed(products, stacked, device, count=rows.count, width=width, room_bytes=room_bytes, team=team)


def _summed(
    values: Callable[[torch.Tensor], torch.Tensor],
    rows: Rows,
    device: torch.device,
    *,
    count: int,
    width: int,
    room_bytes: int,
    team: Team,
) -> torch.Tensor:
    """Return the sum over all blocks of `values(block)`  # (count,) float64, on the CPU."""

    def look(_: int, columns: Rows) -> torch.Tensor:
        part = torch.zeros(count, dtype=torch.float64, device=device)
        for _, block in blocks(columns, device, width=width):
            part += values(block)
        return part.cpu()

    total = torch.zeros(count, dtype=torch.float64)
    for part in over_ranges(look, team.part(rows), device, room_bytes=room_bytes):
        total += part
    return team.added(total)


def weighted_sum(
    rows: Rows, coefficients: torch.Tensor, device: torch.device, *, width: int | None = None
) -> torch.Tensor:
    """Return sum_i coefficients[i] * row_i  # (width,) float32 on the CPU.

    Rows are added in float64 in their order, one after another: the bits do not depend on how many threads there are.
    """
    width = width or _wide_width(rows.count, device)
    total = torch.empty(rows.width, dtype=torch.float32)
    used = [(index, value) for index, value in enumerate(coefficients.tolist()) if value != 0.0]

    def add(first: int, columns: Rows) -> None:
        for start, block in blocks(columns, device, width=width):
            part = torch.zeros(block.shape[1], dtype=torch.float64, device=device)
            for index, value in used:
                part.add_(block[index], alpha=value)
            total[first + start : first + start + block.shape[1]] = part.float().cpu()

    for _ in over_ranges(add, rows, device, room_bytes=_room_bytes(rows.count, width)):
        pass
    return total


def reduced(
    rows: Rows, weights: torch.Tensor, reduce: Reduction, device: torch.device, *, width: int | None = None
) -> torch.Tensor:
    """Return `reduce` of the points weights @ rows  # weights (m, n) float64; result (width,) float32 on the CPU."""
    width = width or block_width(rows.count, device)
    total = torch.empty(rows.width, dtype=torch.float32)
    mixing = None if _is_choice(weights) else weights.float().to(device)
    chosen = weights.argmax(dim=1).to(device)

    def bring(first: int, columns: Rows) -> None:
        for start, block in blocks(columns, device, width=width):
            points = block[chosen] if mixing is None else mixing @ block
            total[first + start : first + start + block.shape[1]] = reduce(points).cpu()

    with _full_float32():
        for _ in over_ranges(bring, rows, device, room_bytes=_room_bytes(rows.count, width)):
            pass
    return total


def _room_bytes(count: int, width: int) -> int:
    """Return what one thread needs: a block as it was read, another that it works on, and products of `count` rows."""
    return 8 * count * width + 16 * count**2


def _is_choice(weights: torch.Tensor) -> bool:
    return bool(((weights != 0).sum(dim=1) == 1).all()) and bool((weights.sum(dim=1) == 1).all())


def _staging(rows: Rows, numel: int, device: torch.device) -> _CpuStaging | _CudaStaging | _NoStaging:
    if device.type != "cuda":
        return _CpuStaging(numel)
    nothing = rows.block(0, 0, torch.empty(rows.count, 0))
    return _NoStaging() if nothing.is_cuda else _CudaStaging(numel, device)


class _NoStaging:
    """For rows that lie on the device already: pinning memory that nobody fills would take longer than to multiply."""

    def buffer(self, numel: int) -> torch.Tensor:
        return torch.empty(numel, device="meta")

    def bring(self, block: torch.Tensor) -> torch.Tensor:
        return block


class _CpuStaging:
    """One buffer that blocks are read into; what is in memory already needs none."""

    def __init__(self, numel: int) -> None:
        self._buffer = torch.empty(numel)

    def buffer(self, numel: int) -> torch.Tensor:
        return self._buffer[:numel]

    def bring(self, block: torch.Tensor) -> torch.Tensor:
        return block


class _CudaStaging:
    """Two pinned buffers in turn: while one block is copied and multiplied, the next one is read from disk."""

    def __init__(self, numel: int, device: torch.device) -> None:
        self._buffers = [torch.empty(numel, pin_memory=True) for _ in range(2)]
        self._copied = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]  # torch's
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's
        self._device = device
        self._turn = 0

    def buffer(self, numel: int) -> torch.Tensor:
        self._turn = 1 - self._turn
        self._copied[self._turn].synchronize()  # of the copy two blocks ago; one that was never recorded is done
        return self._buffers[self._turn][:numel]

    def bring(self, block: torch.Tensor) -> torch.Tensor:
        compute = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            brought = block.to(self._device, non_blocking=True)
            self._copied[self._turn].record(self._copies)
        compute.wait_stream(self._copies)
        brought.record_stream(compute)
        return brought


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
