"""Our rules beside ByzFL's (0.0.11): the same selection and the same output, wherever both define the same.

Where the definitions differ, read in ByzFL's source, and how they are compared here:

- Krum, Multi-Krum: ByzFL sums the n - f - 1 nearest others (`sort(dist)[:, 1:n - f]`), Blanchard and we the n - f - 2.
  So its f + 1 has our neighbours, and then keeps n - f - 1 updates: compared with our `m = n - f - 1`. It leaves out an
  update itself as "the smallest distance", we by index: a twin at distance 0 makes no difference to the sum.
  It divides by the number of neighbours, which changes no order. Its condition is 2f < n, ours n >= 2f + 3.
- Distances: with torch tensors ByzFL takes `torch.cdist` in float32, which for more than 25 rows is an uncentred matrix
  product; it is given float64 numpy arrays here, whose distances are exact.
- Multi-Krum's average: ByzFL's is even, ours by claimed samples, capped; all claims are equal here.
- NNM: the same (n - f nearest, itself among them).
- Geometric median: ByzFL takes T = 3 Weiszfeld steps from 0, with nu = 0.1 as an absolute smoothing; ours go from the
  mean until nothing moves, smoothed relative to the distances. Compared with T and nu that let it converge too.
- Trimmed mean, median: the same; of an even number the median is the mean of the two in the middle.
- ARC: the same k = floor(2 f/n (n - f)); but ByzFL computes it in floating point, where a whole number may come out one
  less: first for n = 242, f = 33.
- Norm clipping: the same for a given radius (ByzFL's `Clipping`, 2.0 if not given; ours the median norm). ByzFL's
  clipping and ARC change the array that they are given.
- Bucketing: both shuffle, each by its own generator: compared by what a bucket is, not by who is in it.
- Centered clipping: the same for a given radius and number of steps from 0; ByzFL's defaults are 100 and 1, ours the
  median distance and 5; called again, a ByzFL object starts from its last result, ours from 0.
- Bulyan, FLTrust, the guarded rule, cosine filter and tournament: ByzFL has none.
"""

import warnings

import numpy as np
import pytest
import torch

from fednet.aggregation.blocks import reduced, weighted_sum
from fednet.aggregation.rows import TensorRows
from fednet.aggregation.rules.registry import MIXINGS, recipe_named
from fednet.aggregation.rules.rule import context_of
from fednet.aggregation.survey import survey

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its plotting libraries
    byzfl = pytest.importorskip("byzfl", reason="byzfl is not installed: pip install -r tests/requirements-oracle.txt")

CPU = torch.device("cpu")
CASES = [(5, 1), (10, 2), (11, 4), (20, 3), (32, 14)]


def updates(n: int, f: int, *, kind: str = "sign-flip") -> torch.Tensor:
    """Return n - f honest updates and then f malicious ones  # (n, 3000) float32."""
    generator = torch.Generator().manual_seed(100 * n + f)
    matrix = torch.randn(1, 3000, generator=generator) + 0.7 * torch.randn(n, 3000, generator=generator)
    honest = matrix[: n - f]
    if f and kind == "sign-flip":
        matrix[n - f :] *= -3
    elif f and kind == "little":  # as ALIE: identical, within the honest spread
        matrix[n - f :] = honest.mean(dim=0) - 0.8 * honest.std(dim=0)
    return matrix


def as_theirs(matrix: torch.Tensor) -> np.ndarray:
    return matrix.double().numpy().copy()


def ours(name: str, matrix: torch.Tensor, f: int, pre: tuple[str, ...] = ()) -> torch.Tensor:
    """Return the step as the coordinator makes it."""
    rows = TensorRows(matrix)
    geometry = survey(rows, CPU).geometry_of(range(len(matrix)))
    plan = recipe_named(name, pre).plan(geometry, context_of(len(matrix), byzantine=f))
    if plan.reduce is None:
        return weighted_sum(rows, plan.weights[0], CPU)
    return reduced(rows, plan.weights, plan.reduce, CPU)


def mixed(name: str, matrix: torch.Tensor, f: int, **parameters: float) -> torch.Tensor:
    """Return the points that a pre-aggregation makes."""
    geometry = survey(TensorRows(matrix), CPU).geometry_of(range(len(matrix)))
    return MIXINGS[name](**parameters).weights(geometry, context_of(len(matrix), byzantine=f)) @ matrix.double()


def assert_same(found: torch.Tensor, expected: np.ndarray) -> None:
    wanted = torch.from_numpy(np.asarray(expected)).double()
    assert found.shape == wanted.shape
    assert float((found.double() - wanted).norm() / wanted.norm()) < 1e-6


@pytest.mark.parametrize("kind", ["sign-flip", "little", "none"])
@pytest.mark.parametrize(("n", "f"), CASES)
def test_krum_is_byzfls_whose_f_is_one_more(n: int, f: int, kind: str) -> None:
    matrix = updates(n, f, kind=kind)
    found = ours("krum", matrix, f)
    assert_same(found, byzfl.Krum(f + 1)(as_theirs(matrix)))
    assert any(torch.equal(found, row) for row in matrix)


@pytest.mark.parametrize("kind", ["sign-flip", "little", "none"])
@pytest.mark.parametrize(("n", "f"), CASES)
def test_multikrum_of_as_many_is_byzfls_whose_f_is_one_more(n: int, f: int, kind: str) -> None:
    matrix = updates(n, f, kind=kind)
    assert_same(ours(f"multikrum:m={n - f - 1}", matrix, f), byzfl.MultiKrum(f + 1)(as_theirs(matrix)))


@pytest.mark.parametrize(("n", "f"), CASES)
def test_multikrum_of_the_same_f_selects_the_same_where_attackers_stand_out(n: int, f: int) -> None:
    matrix = updates(n, f)
    assert_same(ours("multikrum", matrix, f), byzfl.MultiKrum(f)(as_theirs(matrix)))


def test_which_neighbours_count_decides_who_wins() -> None:
    # n = 5, f = 1: with Blanchard's two neighbours the middle of the three wins, with ByzFL's three the one next to 5
    line = torch.tensor([[0.0], [0.1], [0.2], [5.0], [100.0]])
    assert torch.equal(ours("krum", line, 1), line[1])
    assert byzfl.Krum(1)(as_theirs(line)) == as_theirs(line)[2]
    assert byzfl.Krum(2)(as_theirs(line)) == as_theirs(line)[1]


@pytest.mark.parametrize("kind", ["sign-flip", "little", "none"])
@pytest.mark.parametrize(("n", "f"), CASES)
def test_nearest_neighbour_mixing_makes_the_same_points(n: int, f: int, kind: str) -> None:
    matrix = updates(n, f, kind=kind)
    if kind == "little" and f > 1:
        matrix[n - f :] += 1e-3 * torch.randn(f, 3000, generator=torch.Generator().manual_seed(0))  # no ties
    assert_same(mixed("nnm", matrix, f), byzfl.NNM(f)(as_theirs(matrix)))


@pytest.mark.parametrize(("n", "f"), CASES)
def test_mixing_before_a_rule_composes_as_byzfls_does(n: int, f: int) -> None:
    matrix = updates(n, f)
    points = byzfl.NNM(f)(as_theirs(matrix))
    assert_same(ours(f"multikrum:m={n - f - 1}", matrix, f, pre=("nnm",)), byzfl.MultiKrum(f + 1)(points.copy()))
    assert_same(ours("trimmed-mean", matrix, f, pre=("nnm",)), byzfl.TrMean(f)(points.copy()))


@pytest.mark.parametrize(("n", "f"), CASES)
def test_arc_before_mixing_before_trimmed_mean_composes_as_byzfls_does(n: int, f: int) -> None:
    matrix = updates(n, f)
    points = byzfl.NNM(f)(byzfl.ARC(f)(as_theirs(matrix)))
    assert_same(ours("trimmed-mean", matrix, f, pre=("arc", "nnm")), byzfl.TrMean(f)(points))


@pytest.mark.parametrize("kind", ["sign-flip", "little", "none"])
@pytest.mark.parametrize(("n", "f"), CASES)
def test_the_geometric_median_is_where_byzfls_steps_lead(n: int, f: int, kind: str) -> None:
    matrix = updates(n, f, kind=kind)
    assert_same(ours("geometric-median", matrix, f), byzfl.GeometricMedian(nu=1e-6, T=3000)(as_theirs(matrix)))


@pytest.mark.parametrize(("n", "f"), CASES)
def test_trimmed_mean_and_median_are_the_same(n: int, f: int) -> None:
    matrix = updates(n, f)
    assert_same(ours("trimmed-mean", matrix, f), byzfl.TrMean(f)(as_theirs(matrix)))
    assert_same(ours("median", matrix, f), byzfl.Median()(as_theirs(matrix)))


def test_fedavg_of_equal_claims_is_byzfls_average() -> None:
    matrix = updates(10, 0)
    assert_same(ours("fedavg", matrix, 0), byzfl.Average()(as_theirs(matrix)))


@pytest.mark.parametrize(("n", "f"), CASES)
def test_adaptive_robust_clipping_shrinks_the_same_to_the_same(n: int, f: int) -> None:
    matrix = updates(n, f)
    assert_same(mixed("arc", matrix, f), byzfl.ARC(f)(as_theirs(matrix)))


def test_byzfls_arc_loses_one_to_rounding_and_only_in_large_federations() -> None:
    differing = [
        (n, f) for n in range(1, 300) for f in range((n + 1) // 2) if int((2 * f / n) * (n - f)) != 2 * f * (n - f) // n
    ]
    assert differing == [(242, 33)]
    assert 2 * 33 * (242 - 33) % 242 == 0


@pytest.mark.parametrize("radius", [1.0, 60.0, 1e6])
def test_norm_clipping_to_a_radius_is_the_same(radius: float) -> None:
    matrix = updates(10, 2)
    assert_same(mixed("norm-clipping", matrix, 2, tau=radius), byzfl.Clipping(radius)(as_theirs(matrix)))


@pytest.mark.parametrize(("radius", "steps"), [(10.0, 1), (30.0, 5), (1000.0, 1), (50.0, 20)])
def test_centered_clipping_of_the_same_radius_takes_the_same_steps(radius: float, steps: int) -> None:
    matrix = updates(11, 4)
    found = ours(f"centered-clipping:tau={radius:g},iterations={steps}", matrix, 4)
    assert_same(found, byzfl.CenteredClipping(L=steps, tau=radius)(as_theirs(matrix)))


@pytest.mark.parametrize(("n", "size"), [(10, 1), (10, 2), (10, 3), (7, 4), (5, 5), (5, 9)])
def test_buckets_hold_each_update_once_and_are_as_large_as_byzfls(n: int, size: int) -> None:
    np.random.seed(0)
    for buckets in (mixed("bucketing", torch.eye(n), 0, s=size).numpy(), byzfl.Bucketing(size)(np.eye(n))):
        members = buckets > 0
        assert sorted(members.sum(axis=1)) == sorted([size] * (n // size) + ([n % size] if n % size else []))
        assert (members.sum(axis=0) == 1).all()
        assert np.allclose(buckets.sum(axis=1), 1.0)
