import math

import pytest
import torch

from fednet.simulate.attacks.min_max import min_max, min_sum
from tests.simulate.attacks.sights import sent, sight, sight_of, stacked


def farthest(point: torch.Tensor, rows: torch.Tensor) -> float:
    return max(float((point - row).norm()) for row in rows)


def total(point: torch.Tensor, rows: torch.Tensor) -> float:
    return sum(float((point - row).square().sum()) for row in rows)


def step(point: torch.Tensor, rows: torch.Tensor) -> float:
    """Return gamma, of mean - gamma * std."""
    spread = rows.std(dim=0, correction=0)
    return float((rows.mean(dim=0) - point) @ spread / (spread @ spread))


def bisected(rows: torch.Tensor, *, by_sum: bool) -> float:
    """Return gamma by bisection on the paper's condition."""
    mean, spread = rows.mean(dim=0), rows.std(dim=0, correction=0)
    most = max((total if by_sum else farthest)(row, rows) for row in rows)
    low, high = 0.0, 1e3
    for _ in range(60):
        gamma = (low + high) / 2
        value = (total if by_sum else farthest)(mean - gamma * spread, rows)
        low, high = (gamma, high) if value <= most else (low, gamma)
    return low


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("honest", [2, 3, 8, 20])
def test_the_closed_forms_are_what_bisection_finds(honest: int, seed: int) -> None:
    seen = sight(honest=honest, seed=seed)
    rows = stacked(seen.honest)
    assert step(sent(min_max("min-max"), seen)[0].double(), rows) == pytest.approx(bisected(rows, by_sum=False), 1e-4)
    assert step(sent(min_sum("min-sum"), seen)[0].double(), rows) == pytest.approx(bisected(rows, by_sum=True), 1e-4)


def test_min_max_is_as_far_from_the_farthest_as_the_honest_are_and_no_further() -> None:
    seen = sight()
    rows = stacked(seen.honest)
    reached = farthest(sent(min_max("min-max"), seen)[0].double(), rows)
    assert math.isclose(reached, max(farthest(row, rows) for row in rows), rel_tol=1e-3)


def test_min_sum_has_the_sum_of_the_worst_honest_worker_and_no_more() -> None:
    seen = sight()
    rows = stacked(seen.honest)
    reached = total(sent(min_sum("min-sum"), seen)[0].double(), rows)
    assert math.isclose(reached, max(total(row, rows) for row in rows), rel_tol=1e-3)


def test_honest_workers_who_agree_leave_no_room() -> None:
    row = torch.linspace(-1, 1, 7)
    for attack in (min_max("min-max"), min_sum("min-sum")):
        torch.testing.assert_close(sent(attack, sight_of([row] * 4, [row]))[0], row)
