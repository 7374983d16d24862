import torch

from fednet.aggregation.rows import ChosenRows, TensorRows


def test_chosen_rows_come_in_the_given_order() -> None:
    rows = ChosenRows(TensorRows(torch.arange(12.0).view(4, 3)), [3, 0])
    out = torch.empty(2, 2)
    rows.read(1, 3, out)
    assert out.tolist() == [[10.0, 11.0], [1.0, 2.0]]


def test_all_rows_in_order_are_read_without_a_detour() -> None:
    matrix = torch.arange(6.0).view(2, 3)
    out = torch.empty(2, 3)
    ChosenRows(TensorRows(matrix), [0, 1]).read(0, 3, out)
    assert torch.equal(out, matrix)
