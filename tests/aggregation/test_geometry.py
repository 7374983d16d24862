import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.aggregation.blocks import geometry_of
from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rows import TensorRows

CPU = torch.device("cpu")


def points(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(matrix: torch.Tensor, *, centre: int) -> Geometry:
    return geometry_of(TensorRows(matrix.float()), CPU, centre=centre)[0]


@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_whatever_row_it_is_taken_from_it_is_the_same_geometry(n: int, d: int, centre: int) -> None:
    matrix = points(n, d)
    found, expected = measured(matrix, centre=centre % n), Geometry.of(matrix.float())
    assert torch.allclose(found.squared_distances(), expected.squared_distances(), atol=1e-5)
    assert torch.allclose(found.norms(), expected.norms(), atol=1e-4)
    assert torch.allclose(found.products(), expected.products(), atol=1e-5)


def test_products_are_inner_products_about_the_origin() -> None:
    matrix = points(4, 9)
    assert torch.allclose(measured(matrix, centre=2).products(), matrix @ matrix.T, atol=1e-5)


@given(st.integers(1, 5), st.integers(1, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_mixing_in_gram_space_is_mixing_the_updates(n: int, m: int, sums_to_one: bool) -> None:
    matrix, weights = points(n, 12), points(m, n, seed=1)
    if sums_to_one:
        weights = weights.softmax(dim=1)
    found, expected = measured(matrix, centre=0).mixed(weights), Geometry.of(weights @ matrix)
    assert torch.allclose(found.squared_distances(), expected.squared_distances(), atol=1e-4)
    assert torch.allclose(found.norms(), expected.norms(), atol=1e-3)


def test_norms_of_updates_far_smaller_than_the_common_row_are_exact_also_when_some_are_left_out_or_shrunk() -> None:
    matrix = points(3, 50) * torch.tensor([1e-3, 1e9, 2e9])[:, None]
    exact = matrix.float().double().norm(dim=1)
    found = measured(matrix, centre=1)
    assert torch.allclose(found.norms(), exact, rtol=1e-6)
    assert torch.allclose(found.only([2, 0]).norms(), exact[[2, 0]], rtol=1e-6)
    shrunk = found.mixed(torch.diag(torch.tensor([-0.5, 1.0, 1e-9], dtype=torch.float64)))
    assert torch.allclose(shrunk.norms(), exact * torch.tensor([0.5, 1.0, 1e-9]), rtol=1e-6)


def test_distances_to_any_combination() -> None:
    matrix, coefficients = points(5, 20), torch.tensor([0.1, 0.0, 0.7, -0.2, 0.1], dtype=torch.float64)
    expected = (matrix - coefficients @ matrix).norm(dim=1)
    assert torch.allclose(measured(matrix, centre=3).distances_to(coefficients), expected, atol=1e-5)


def test_some_updates_have_the_geometry_that_they_have_alone() -> None:
    matrix = points(6, 20)
    found, expected = measured(matrix, centre=1).only([4, 0]), Geometry.of(matrix[[4, 0]])
    assert torch.allclose(found.products(), expected.products(), atol=1e-5)


def test_mixing_keeps_the_digits_of_close_updates_far_from_the_origin() -> None:
    matrix = 100 * points(1, 5000) + 1e-3 * points(6, 5000, seed=1)
    weights = points(6, 6, seed=2).softmax(dim=1)
    exact = weights @ matrix.float().double()
    expected = Geometry.of(exact - exact[0]).squared_distances()
    found = measured(matrix, centre=0).mixed(weights).squared_distances()
    assert torch.allclose(found, expected, rtol=1e-4)


def test_a_row_that_is_not_finite_spoils_only_itself() -> None:
    matrix = points(4, 30)
    matrix[2, 7] = float("nan")
    kept = [0, 1, 3]
    found, expected = measured(matrix, centre=0).only(kept), Geometry.of(matrix[kept])
    assert torch.allclose(found.squared_distances(), expected.squared_distances(), atol=1e-4)
