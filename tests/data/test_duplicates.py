import numpy as np

from data.duplicates import THUMBNAIL, group_twins
from data.greys import Pixels


def thumbnail(seed: int) -> Pixels:
    return np.asarray(np.random.default_rng(seed).integers(0, 255, (THUMBNAIL, THUMBNAIL)), dtype=np.uint8)


def brighter(image: Pixels) -> Pixels:
    return np.asarray(np.clip(image.astype(np.float32) * 0.8 + 20, 0, 255), dtype=np.uint8)


def test_the_same_bytes_are_one_group() -> None:
    groups = group_twins(["a", "b", "a"], [thumbnail(1), thumbnail(2), thumbnail(1)])
    assert groups.of[0] == groups.of[2] != groups.of[1]
    assert (groups.exact_pairs, groups.near_pairs) == (1, 0)


def test_the_same_picture_in_other_brightness_is_near() -> None:
    groups = group_twins(["a", "b", "c"], [thumbnail(1), brighter(thumbnail(1)), thumbnail(3)])
    assert groups.of[0] == groups.of[1] != groups.of[2]
    assert (groups.exact_pairs, groups.near_pairs) == (0, 1)


def test_a_twins_twin_is_in_the_same_group() -> None:
    groups = group_twins(["a", "a", "b"], [thumbnail(1), thumbnail(1), brighter(thumbnail(1))])
    assert len(set(groups.of.tolist())) == 1


def test_a_chain_of_near_twins_is_one_group_although_its_ends_are_unlike() -> None:
    start, end = thumbnail(1).astype(np.float32), thumbnail(2).astype(np.float32)
    chain = [np.asarray(start + (end - start) * step / 30, dtype=np.uint8) for step in range(31)]
    groups = group_twins([str(index) for index in range(31)], chain)
    assert len(set(groups.of.tolist())) == 1
    assert groups.near_pairs < 31 * 30 // 2


def test_twins_are_found_wherever_they_stand_among_many() -> None:
    images = [thumbnail(seed) for seed in range(1100)]
    images[1090] = brighter(images[3])
    images[700] = brighter(images[690])
    groups = group_twins([str(index) for index in range(1100)], images)
    assert groups.near_pairs == 2
    assert groups.of[1090] == groups.of[3]
    assert groups.of[700] == groups.of[690]


def test_every_pair_of_many_copies_counts() -> None:
    groups = group_twins(["a"] * 5 + ["b"] * 2, [thumbnail(1)] * 5 + [thumbnail(2)] * 2)
    assert (groups.exact_pairs, groups.near_pairs) == (11, 0)


def test_images_of_one_colour_are_no_twins_of_anything() -> None:
    flat = np.full((THUMBNAIL, THUMBNAIL), 7, dtype=np.uint8)
    assert len(set(group_twins(["a", "b"], [flat, flat]).of.tolist())) == 2
