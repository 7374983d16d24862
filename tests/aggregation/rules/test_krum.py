import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.krum import krum, krum_scores, ranking
from fednet.aggregation.rules.rule import context_of


def chosen(*places: float, byzantine: int) -> tuple[int, ...] | None:
    """The update that Krum takes of points on a line."""
    points = torch.tensor(places, dtype=torch.float64)[:, None]
    return krum().plan(Geometry.of(points), context_of(len(places), byzantine=byzantine)).selected


def line(*places: float) -> torch.Tensor:
    """Squared distances of points on a line."""
    points = torch.tensor(places, dtype=torch.float64)
    return (points[:, None] - points[None]).square()


def test_scores_computed_by_hand() -> None:
    # points 0 1 2 3 10, f = 1: two nearest others. 0: 1+4, 1: 1+1, 2: 1+1, 3: 1+4, 10: 49+64
    assert krum_scores(line(0, 1, 2, 3, 10), 1).tolist() == [5, 2, 2, 5, 113]


def test_f_zero_counts_all_but_one_neighbour() -> None:
    # n = 4, f = 0: the two nearest of three others
    assert krum_scores(line(0, 1, 3, 7), 0).tolist() == [10, 5, 13, 52]


def test_a_tie_goes_to_the_first_name() -> None:
    assert chosen(0, 1, 2, 3, 10, byzantine=1) == (1,)


def test_a_twin_counts_as_a_neighbour_and_self_does_not() -> None:
    # two identical points: each has the other at distance 0, then 5 -> 25
    assert krum_scores(line(0, 0, 5, 6, 9), 1).tolist() == [25, 25, 1 + 16, 1 + 9, 9 + 16]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_for_neighbours_score_zero(count: int) -> None:
    assert krum_scores(line(*range(count)), 0).tolist() == [0.0] * count
    assert chosen(*range(count), byzantine=0) == (0,)


@given(st.permutations(list(range(6))))
@settings(deadline=None)
def test_scores_go_with_their_worker_whatever_the_order(order: list[int]) -> None:
    places = [0.0, 0.5, 1.75, 2.0, 4.25, 30.0]
    scores = krum_scores(line(*places), 1)
    permuted = krum_scores(line(*(places[i] for i in order)), 1)
    assert torch.equal(permuted, scores[order])


def test_ranking_is_stable() -> None:
    assert ranking(torch.tensor([2.0, 1.0, 1.0, 0.0])) == [3, 1, 2, 0]
