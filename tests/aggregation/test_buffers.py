import pytest
import torch

from fednet.aggregation.buffers import median_buffers, voters


def test_one_liar_does_not_move_the_median() -> None:
    buffers = [{"m": torch.tensor([value])} for value in (1.0, 2.0, 1e9)]
    assert median_buffers(buffers)["m"].tolist() == [2.0]


def test_an_even_number_gives_the_mean_of_the_middle_two() -> None:
    assert median_buffers([{"m": torch.tensor([v])} for v in (1.0, 2.0, 4.0, 9.0)])["m"].tolist() == [3.0]


def test_counters_stay_integers_somebody_counted() -> None:
    found = median_buffers([{"n": torch.tensor(v)} for v in (10, 20, 30, 50)])["n"]
    assert found.dtype == torch.int64
    assert found.item() == 20


@pytest.mark.parametrize(("f", "selected"), [(0, [3]), (1, [0, 1, 2, 4]), (2, [0, 1, 2, 3, 4])])
def test_the_selected_vote_where_the_honest_are_sure_to_be_the_majority(f: int, selected: list[int]) -> None:
    assert voters(selected, count=2 * f + 3, byzantine=f) == selected


@pytest.mark.parametrize(("f", "selected"), [(1, [4]), (2, [0, 1, 5, 6]), (3, [0, 1, 2, 3, 4, 5])])
def test_all_vote_where_f_attackers_could_be_half_of_the_selected(f: int, selected: list[int]) -> None:
    assert voters(selected, count=2 * f + 3, byzantine=f) == list(range(2 * f + 3))
