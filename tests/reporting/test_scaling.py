import math

import pytest

from fednet.reporting.scaling import classical_scaling


def squared(points: list[tuple[float, float]]) -> list[list[float]]:
    return [[math.dist(one, other) ** 2 for other in points] for one in points]


def test_points_of_the_plane_keep_their_distances() -> None:
    points = [(0.0, 0.0), (3.0, 0.0), (0.0, 4.0), (5.0, 5.0)]
    found = classical_scaling(squared(points))
    for one in range(4):
        for other in range(4):
            assert math.dist(found[one], found[other]) == pytest.approx(math.dist(points[one], points[other]))


def test_the_centre_is_the_origin_and_axes_point_to_the_farthest() -> None:
    found = classical_scaling(squared([(0.0, 0.0), (1.0, 0.0), (10.0, 0.5)]))
    assert sum(x for x, _ in found) == pytest.approx(0.0)
    assert found[2][0] > 0 and max(found, key=lambda point: abs(point[1]))[1] > 0


@pytest.mark.parametrize(
    "points",
    [[], [(0.0, 0.0)], [(0.0, 0.0), (0.0, 0.0)], [(0.0, 0.0), (2.0, 0.0)]],
    ids=["none", "one", "twins", "two"],
)
def test_few_points_and_equal_ones(points: list[tuple[float, float]]) -> None:
    found = classical_scaling(squared(points))
    assert len(found) == len(points)
    assert all(math.isfinite(value) for point in found for value in point)
