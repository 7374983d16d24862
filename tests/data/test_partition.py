import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.partition import SCHEMES, partition, stratified_share
from fednet.errors import DataError


def divide(labels: list[int], sites: int, scheme: str, seed: int = 0, alpha: float = 0.5) -> list[list[int]]:
    return partition(labels, sites, scheme=scheme, alpha=alpha, rng=np.random.default_rng(seed))


@given(
    st.lists(st.integers(0, 3), min_size=6, max_size=80),
    st.integers(1, 6),
    st.sampled_from(SCHEMES),
    st.integers(0, 100),
    st.floats(0.01, 10),
)
@settings(max_examples=150, deadline=None)
def test_every_image_goes_to_one_site_and_no_site_is_empty(
    labels: list[int], sites: int, scheme: str, seed: int, alpha: float
) -> None:
    places = divide(labels, sites, scheme, seed, alpha)
    assert sorted(index for place in places for index in place) == list(range(len(labels)))
    assert all(places)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_seed_decides(scheme: str) -> None:
    labels = [index % 4 for index in range(200)]
    assert divide(labels, 5, scheme, 3) == divide(labels, 5, scheme, 3)
    assert divide(labels, 5, scheme, 3) != divide(labels, 5, scheme, 4)


def test_iid_sites_are_alike() -> None:
    labels = [index % 4 for index in range(400)]
    for place in divide(labels, 5, "iid"):
        assert np.bincount([labels[index] for index in place]).tolist() == [20, 20, 20, 20]


def test_dirichlet_sites_differ_in_class_mix_and_quantity_sites_in_size() -> None:
    labels = [index % 4 for index in range(2000)]
    mixes = [np.bincount([labels[i] for i in place], minlength=4) for place in divide(labels, 5, "dirichlet")]
    assert max((mix.max() - mix.min()) / mix.sum() for mix in mixes) > 0.3
    sizes = [len(place) for place in divide(labels, 5, "quantity")]
    assert max(sizes) > 2 * min(sizes)


def test_fewer_images_than_sites_are_refused() -> None:
    with pytest.raises(DataError, match="3 training images for 5 sites"):
        divide([0, 1, 2], 5, "iid")


def test_a_share_is_taken_of_every_class() -> None:
    labels = [0] * 100 + [1] * 10 + [2] * 2
    chosen = stratified_share(labels, 0.1, np.random.default_rng(0))
    assert np.bincount([labels[index] for index in chosen]).tolist() == [10, 1, 1]
    assert stratified_share(labels, 0.0, np.random.default_rng(0)) == []


def test_a_large_share_leaves_one_of_every_class() -> None:
    labels = [0, 0, 0, 1, 1, 2]
    chosen = stratified_share(labels, 0.9, np.random.default_rng(0))
    assert [labels[index] for index in chosen] == [0, 0, 1]
