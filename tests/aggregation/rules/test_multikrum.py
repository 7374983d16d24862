import torch

from fednet.aggregation.rules.multikrum import MULTIKRUM
from fednet.aggregation.rules.rule import Context


def test_it_keeps_all_but_f() -> None:
    points = torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0], dtype=torch.float64)
    distances = (points[:, None] - points[None]).square()
    assert sorted(MULTIKRUM.select(distances, Context(1)).selected) == [0, 1, 2, 3]


def test_without_f_it_keeps_everybody() -> None:
    assert len(MULTIKRUM.select(torch.zeros(4, 4, dtype=torch.float64), Context(0)).selected) == 4


def test_it_needs_two_f_plus_three() -> None:
    assert [MULTIKRUM.needs(f) for f in (0, 1, 2)] == [1, 5, 7]
