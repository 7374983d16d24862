import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.multikrum import multikrum
from fednet.aggregation.rules.rule import Plan, context_of


def planned(*places: float, byzantine: int, m: float = 0) -> Plan:
    points = torch.tensor(places, dtype=torch.float64)[:, None]
    return multikrum(m=m).plan(Geometry.of(points), context_of(len(places), byzantine=byzantine))


def test_it_keeps_all_but_f() -> None:
    assert sorted(planned(0, 1, 2, 3, 10, byzantine=1).selected or ()) == [0, 1, 2, 3]


def test_without_f_it_keeps_everybody() -> None:
    assert len(planned(0, 0, 0, 0, byzantine=0).selected or ()) == 4


def test_fewer_may_be_kept_and_never_more_than_all_but_f() -> None:
    assert planned(0, 1, 2, 3, 10, byzantine=1, m=1).selected == (1,)
    assert len(planned(0, 1, 2, 3, 10, byzantine=1, m=5).selected or ()) == 4


def test_it_needs_two_f_plus_three() -> None:
    assert [multikrum().needs(f) for f in (0, 1, 2)] == [1, 5, 7]
