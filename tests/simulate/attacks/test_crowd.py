import pytest
import torch

from fednet.simulate.attacks import crowd


@pytest.mark.parametrize("width", [1, 5, 2**16 - 1, 2**16 + 3])
def test_blocks_give_what_the_whole_gives(width: int) -> None:
    rows = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    whole = rows.double()
    torch.testing.assert_close(crowd.mean(list(rows)), whole.mean(dim=0).float())
    torch.testing.assert_close(crowd.deviation(list(rows)), whole.std(dim=0, correction=0).float())
    torch.testing.assert_close(crowd.products(list(rows)), whole @ whole.T)


def test_distances_come_from_products() -> None:
    rows = torch.randn(5, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(crowd.squared_distances(rows @ rows.T), torch.cdist(rows, rows).square())


def test_twins_are_at_no_distance_and_never_below() -> None:
    row = torch.full((7,), 0.1)
    distances = crowd.squared_distances(crowd.products([row, row.clone(), 3 * row]))
    assert float(distances.min()) == 0.0


def test_one_row_has_no_spread() -> None:
    assert torch.equal(crowd.deviation([torch.randn(9)]), torch.zeros(9))
