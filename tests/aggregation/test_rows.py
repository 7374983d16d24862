import torch

from fednet.aggregation.rows import ChosenRows, ColumnsOf, SeparateRows, StackedRows, TensorRows


def test_chosen_rows_come_in_the_given_order() -> None:
    rows = ChosenRows(TensorRows(torch.arange(12.0).view(4, 3)), [3, 0])
    assert rows.block(1, 3, torch.empty(2, 2)).tolist() == [[10.0, 11.0], [1.0, 2.0]]


def test_all_rows_in_order_are_read_without_a_detour() -> None:
    matrix = torch.arange(6.0).view(2, 3)
    found = ChosenRows(TensorRows(matrix), [0, 1]).block(0, 3, torch.empty(2, 3))
    assert found.data_ptr() == matrix.data_ptr()


def test_a_range_of_columns_is_a_matrix_of_its_own() -> None:
    rows = ColumnsOf(TensorRows(torch.arange(12.0).view(3, 4)), 1, 4)
    assert rows.width == 3
    assert rows.block(0, 2, torch.empty(3, 2)).tolist() == [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]


def test_separate_rows_are_brought_together_by_columns() -> None:
    rows = SeparateRows(list(torch.arange(12.0).view(3, 4)))
    assert rows.block(1, 3, torch.empty(3, 2)).tolist() == [[1.0, 2.0], [5.0, 6.0], [9.0, 10.0]]


def test_rows_are_stacked() -> None:
    rows = StackedRows(TensorRows(torch.zeros(2, 3)), TensorRows(torch.ones(1, 3)))
    assert rows.block(0, 2, torch.empty(3, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
