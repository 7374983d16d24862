import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.aggregation.blocks import median_row, products_with, row_norms, weighted_sum
from fednet.aggregation.rows import TensorRows
from fednet.aggregation.survey import survey

CPU = torch.device("cpu")


def brute_force(matrix: torch.Tensor) -> torch.Tensor:
    """Squared distances in float64, pair by pair."""
    exact = matrix.double()
    return torch.stack([(exact - row).square().sum(dim=1) for row in exact])


def distances(matrix: torch.Tensor, *, width: int | None = None) -> torch.Tensor:
    return survey(TensorRows(matrix), CPU, width=width).geometry_of(range(len(matrix))).squared_distances()


def random(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 1), (3, 7), (8, 5000), (32, 3001)])
def test_distances_equal_float64_brute_force(n: int, d: int) -> None:
    matrix = random(n, d)
    assert torch.allclose(distances(matrix), brute_force(matrix), rtol=1e-5, atol=1e-9)


def test_close_updates_far_from_the_origin_keep_their_digits() -> None:
    matrix = 100 * random(1, 20_000) / 141 + 1e-3 * random(16, 20_000, seed=1)
    assert torch.allclose(distances(matrix), brute_force(matrix), rtol=1e-4)
    plain = matrix @ matrix.T
    naive = plain.diagonal()[:, None] + plain.diagonal()[None] - 2 * plain
    worst = ((naive - brute_force(matrix)).abs() / brute_force(matrix).clamp(min=1e-9)).fill_diagonal_(0).max()
    assert worst > 0.05, "the plain float32 Gram matrix has become exact: this test shows nothing any more"


def test_one_update_scaled_a_hundred_thousand_times_spoils_no_honest_distance() -> None:
    matrix = random(9, 4000)
    matrix[4] *= 1e5
    honest = [0, 1, 2, 3, 5, 6, 7, 8]
    found, expected = distances(matrix), brute_force(matrix)
    assert torch.allclose(found[honest][:, honest], expected[honest][:, honest], rtol=1e-5)


def test_identical_updates_are_at_distance_zero_and_never_below() -> None:
    matrix = random(1, 1000).repeat(4, 1)
    assert torch.equal(distances(matrix), torch.zeros(4, 4, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1e-30, 1e-20, 1e-10, 1e10, 1e20, 1e30, 1e37])
def test_distances_of_tiny_denormal_and_huge_updates_are_right(scale: float) -> None:
    matrix = random(6, 500) * scale
    assert torch.allclose(distances(matrix), brute_force(matrix), rtol=1e-5, atol=0.0)


def test_a_huge_minority_does_not_make_the_others_distances_vanish() -> None:
    matrix = random(7, 300)
    matrix[:3] *= 1e30
    assert torch.allclose(distances(matrix)[3:, 3:], brute_force(matrix)[3:, 3:], rtol=1e-5)


@pytest.mark.parametrize("width", [None, 2**12, 2**20])
def test_long_updates_keep_six_digits_whatever_the_block(width: int | None) -> None:
    matrix = 1e-3 * random(10, 2**20) + 2e-3 * random(1, 2**20, seed=1)
    assert torch.allclose(distances(matrix, width=width), brute_force(matrix), rtol=1e-6)


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_a_lower_precision_that_somebody_set_is_not_used_and_is_left_as_it_was(precision: str) -> None:
    matrix = 100 * random(1, 5000) + random(6, 5000, seed=1)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        assert torch.allclose(distances(matrix), brute_force(matrix), rtol=1e-4)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("norms", "row"), [([3.0], 0), ([5.0, 1.0], 1), ([9.0, 1.0, 3.0], 2), ([2.0, 2.0, 2.0], 1), ([0.0, 7.0, 0.0], 2)]
)
def test_the_common_row_is_the_one_of_median_norm(norms: list[float], row: int) -> None:
    assert median_row(torch.tensor(norms, dtype=torch.float64)) == row


@pytest.mark.parametrize("scale", [1e-30, 1e-42, 1e15])
def test_norms_of_tiny_denormal_and_huge_updates_are_right(scale: float) -> None:
    matrix = random(3, 100) * scale
    expected = matrix.double().norm(dim=1)
    assert torch.allclose(row_norms(TensorRows(matrix), CPU), expected, rtol=1e-12)


def test_a_row_that_is_not_finite_has_a_norm_that_is_not() -> None:
    matrix = random(3, 10)
    matrix[1, 5], matrix[2, 0] = float("nan"), float("inf")
    assert row_norms(TensorRows(matrix), CPU).isfinite().tolist() == [True, False, False]


@given(st.integers(2, 6), st.integers(1, 40), st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_block_width_changes_nothing_that_matters(n: int, d: int, width: int) -> None:
    matrix = random(n, d)
    assert torch.allclose(distances(matrix, width=width), distances(matrix), rtol=1e-6, atol=1e-9)


@given(st.integers(2, 6), st.floats(-10, 10))
@settings(max_examples=50, deadline=None)
def test_moving_all_updates_changes_no_distance(n: int, shift: float) -> None:
    matrix = random(n, 64)
    assert torch.allclose(distances(matrix + shift), distances(matrix), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [None, 7])
def test_the_weighted_sum_is_numpys(width: int | None) -> None:
    matrix, weights = random(5, 1000), torch.tensor([0.5, 0.0, 0.25, 0.125, 0.125], dtype=torch.float64)
    expected = np.average(matrix.double().numpy(), axis=0, weights=weights.numpy())
    found = weighted_sum(TensorRows(matrix), weights, CPU, width=width)
    assert np.allclose(found.numpy(), expected, atol=1e-6)


def test_the_weighted_sum_keeps_what_large_values_would_swallow() -> None:
    matrix = torch.tensor([[1e8], [1.0], [-1e8]])
    assert weighted_sum(TensorRows(matrix), torch.ones(3, dtype=torch.float64), CPU).tolist() == [1.0]


def test_a_row_of_weight_zero_is_not_even_read_into_the_sum() -> None:
    matrix = random(2, 10)
    matrix[1] = float("nan")
    assert weighted_sum(TensorRows(matrix), torch.tensor([1.0, 0.0]), CPU).isfinite().all()


def test_products_with_a_vector_are_numpys() -> None:
    matrix = torch.randn(7, 300_001, generator=torch.Generator().manual_seed(3))
    vector = torch.randn(300_001, generator=torch.Generator().manual_seed(4))
    found = products_with(TensorRows(matrix), vector, torch.device("cpu"))
    assert torch.allclose(found, matrix.double() @ vector.double(), rtol=0, atol=1e-3)
