from collections.abc import Iterator

import pytest
import torch

from fednet.aggregation.blocks import reduced, row_norms, weighted_sum
from fednet.aggregation.ranges import over_ranges
from fednet.aggregation.rows import Rows, TensorRows
from fednet.aggregation.rules.trimmed_mean import trimmed_mean_of
from fednet.aggregation.survey import survey

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def updates(n: int = 6, d: int = 700_001) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def results(matrix: torch.Tensor) -> list[torch.Tensor]:
    """Return what every pass makes of the updates."""
    rows, even = TensorRows(matrix), torch.full((len(matrix),), 1 / 3, dtype=torch.float64)
    return [
        survey(rows, CPU).geometry_of(range(len(matrix))).gram,
        row_norms(rows, CPU),
        weighted_sum(rows, even, CPU),
        reduced(rows, torch.diag(even * 3), lambda block: trimmed_mean_of(block, trim=1), CPU),
    ]


def test_no_bit_of_any_pass_depends_on_how_many_threads_there_are() -> None:
    matrix = updates()
    torch.set_num_threads(1)
    expected = results(matrix)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        for found, alone in zip(results(matrix), expected, strict=True):
            assert torch.equal(found, alone)


def test_the_caller_keeps_its_threads() -> None:
    torch.set_num_threads(3)
    results(updates())
    assert torch.get_num_threads() == 3


def test_ranges_come_in_order_and_hold_every_column_once() -> None:
    matrix = updates(n=1)

    def look(first: int, columns: Rows) -> tuple[int, torch.Tensor]:
        return first, columns.block(0, columns.width, torch.empty(0))

    found = list(over_ranges(look, TensorRows(matrix), CPU, room_bytes=1))
    assert [first for first, _ in found] == [2**17 * place for place in range(6)]
    assert torch.equal(torch.cat([block for _, block in found], dim=1), matrix)


def test_what_fails_in_a_thread_is_raised_here() -> None:
    def fail(first: int, columns: Rows) -> None:
        raise OSError(f"no column {first}")

    with pytest.raises(OSError, match="no column 0"):
        list(over_ranges(fail, TensorRows(updates(n=1)), CPU, room_bytes=1))


def test_updates_without_columns_have_no_ranges() -> None:
    rows = TensorRows(torch.zeros(2, 0))
    assert list(over_ranges(lambda first, columns: first, rows, CPU, room_bytes=1)) == []
    assert weighted_sum(rows, torch.ones(2, dtype=torch.float64), CPU).shape == (0,)
