import math

import pytest
import torch

from fednet.simulate.attacks.little import FALLBACK_Z, alie, largest_z
from tests.simulate.attacks.sights import sent, sight, stacked


def normal_cdf(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2


def test_z_for_24_attackers_of_50_is_the_papers() -> None:
    assert largest_z(50, 24) == pytest.approx(1.43, abs=0.005)


@pytest.mark.parametrize(("count", "attackers"), [(50, 24), (25, 5), (25, 11), (51, 12), (10, 4), (9, 3)])
def test_z_leaves_just_enough_supporters_outside(count: int, attackers: int) -> None:
    honest = count - attackers
    supporters = math.floor(count / 2 + 1) - attackers
    assert normal_cdf(largest_z(count, attackers)) == pytest.approx((honest - supporters) / honest)


@pytest.mark.parametrize(("count", "attackers"), [(10, 2), (5, 1), (8, 1), (2, 1), (1, 1), (3, 3)])
def test_where_the_formula_gives_nothing_to_shift_by_there_is_a_fallback(count: int, attackers: int) -> None:
    assert largest_z(count, attackers) == FALLBACK_Z


@pytest.mark.parametrize(("count", "attackers"), [(10, 6), (20, 12), (100, 80)])
def test_attackers_in_the_majority_leave_one_outside(count: int, attackers: int) -> None:
    honest = count - attackers
    assert normal_cdf(largest_z(count, attackers)) == pytest.approx((honest - 1) / honest)


@pytest.mark.parametrize("z", [None, 1.5, -2.0])
def test_every_coordinate_is_shifted_by_z_deviations(z: float | None) -> None:
    seen = sight(honest=8, attackers=5)
    used = largest_z(13, 5) if z is None else z
    rows = stacked(seen.honest)
    mean = rows.sum(dim=0) / 8
    expected = mean - used * ((rows - mean).square().sum(dim=0) / 8).sqrt()
    for row in sent(alie("alie", z=z), seen).double():
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-6)
