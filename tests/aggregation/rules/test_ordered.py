import itertools

import pytest
import torch

from fednet.aggregation.rules.ordered import network, sorted_columns


@pytest.mark.parametrize("count", range(1, 11))
def test_the_network_sorts_all_zeros_and_ones_and_so_everything(count: int) -> None:
    for values in itertools.product([0, 1], repeat=count):  # the 0-1 principle (Knuth, volume 3, 5.3.4)
        row = list(values)
        for low, high in network(count):
            row[low], row[high] = min(row[low], row[high]), max(row[low], row[high])
        assert row == sorted(row)


@pytest.mark.parametrize("count", [1, 2, 7, 25, 100])
def test_columns_come_out_sorted_and_the_block_stays_as_it_was(count: int) -> None:
    block = torch.randn(count, 50, generator=torch.Generator().manual_seed(0))
    before = block.clone()
    assert torch.equal(torch.stack(sorted_columns(block)), before.sort(dim=0).values)
    assert torch.equal(block, before)
