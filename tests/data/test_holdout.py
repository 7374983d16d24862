import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from data.classes import FOLDERS
from data.duplicates import THUMBNAIL
from data.greys import Pixels
from data.holdout import held_out, hold_out
from data.images import load_folder
from fednet.errors import DataError
from tests.data.scans import write_folder, write_scan

LABELS = [0] * 40 + [1] * 20 + [2] * 7 + [3] * 1


def digest(seed: int) -> str:
    return hashlib.sha256(str(seed).encode()).hexdigest()


def thumbnail(seed: int) -> Pixels:
    return np.asarray(np.random.default_rng(seed).integers(0, 255, (THUMBNAIL, THUMBNAIL)), dtype=np.uint8)


def chosen(seeds: list[int], labels: list[int], *, share: float = 0.15, worker: str = "client1") -> set[int]:
    """Return the seeds of the scans that are held out."""
    held = held_out(list(map(digest, seeds)), list(map(thumbnail, seeds)), labels, share=share, worker=worker)
    return {seeds[index] for index in held}


def test_every_class_gives_its_share_rounded_down() -> None:
    held = chosen(list(range(len(LABELS))), LABELS)
    assert Counter(LABELS[seed] for seed in held) == {0: 6, 1: 3, 2: 1}


def test_not_more_than_half_of_any_class_is_ever_held_out() -> None:
    held = Counter(LABELS[seed] for seed in chosen(list(range(len(LABELS))), LABELS, share=0.5))
    assert held == {0: 20, 1: 10, 2: 3}


def test_name_and_contents_decide_and_not_the_order_of_the_files() -> None:
    seeds = list(range(len(LABELS)))
    first = chosen(seeds, LABELS)
    assert chosen(seeds[::-1], LABELS[::-1]) == first
    assert chosen(seeds, LABELS, worker="client2") != first


def test_a_scan_that_is_added_makes_few_others_change_sides() -> None:
    seeds, labels = list(range(200)), [seed % 2 for seed in range(200)]
    before = chosen(seeds, labels)
    after = chosen([*seeds, 1000, 1001], [*labels, 0, 1])
    assert len(before - after) <= 2, "at most the last of each class makes room for a new one"


def test_twins_are_on_one_side_even_where_their_classes_differ() -> None:
    seeds = list(range(60))
    digests, thumbnails = list(map(digest, seeds)), list(map(thumbnail, seeds))
    for index in range(0, 60, 2):  # every second scan is its predecessor's twin, a little brighter
        thumbnails[index + 1] = np.asarray(np.clip(thumbnails[index] * 0.8 + 20.0, 0, 255), dtype=np.uint8)
    labels = [0, 1] * 30
    held = set(held_out(digests, thumbnails, labels, share=0.2, worker="client1"))
    assert len(held) == 12
    assert all((index in held) == (index + 1 in held) for index in range(0, 60, 2))


def test_a_group_that_is_larger_than_the_share_stays_with_training() -> None:
    assert held_out(["a"] * 10, [thumbnail(1)] * 10, [0] * 10, share=0.3, worker="client1") == []


def test_a_folder_is_divided_without_loss_and_the_same_way_again(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", 10)
    (folder / FOLDERS[1] / "scan004.png").write_bytes(b"no picture")
    scans = load_folder(folder, image_size=24, max_bad_fraction=0.1)
    training, held = hold_out(folder, scans, share=0.2, worker="client1")
    assert held.class_counts() == {"glioma": 2, "meningioma": 1, "no_tumor": 2, "pituitary": 2}
    assert len(training.labels) == 39 - 7
    assert training.skipped == scans.skipped
    assert {*rows(training.images), *rows(held.images)} == set(rows(scans.images))
    again = hold_out(folder, load_folder(folder, image_size=24, max_bad_fraction=0.1), share=0.2, worker="client1")
    assert torch.equal(again[1].images, held.images)
    assert torch.equal(again[1].labels, held.labels)


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_the_size_at_which_scans_are_decoded_changes_nothing(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", 10)
    small, large = (
        hold_out(folder, load_folder(folder, image_size=size), share=0.2, worker="w")[1].images.float()
        for size in (32, 64)
    )
    difference = torch.nn.functional.interpolate(large, size=32, mode="area") - small
    assert difference.abs().mean() < 8, "other scans differ by far more"


def test_a_folder_too_small_for_the_share_says_so(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", 3)
    with pytest.raises(DataError, match=r"--hold-out 0.15 of 12 scans.*a class of 7 scans"):
        hold_out(folder, load_folder(folder, image_size=24), share=0.15, worker="client1")


def test_a_folder_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", 3)
    scans = load_folder(folder, image_size=24)
    write_scan(folder / FOLDERS[0] / "new.png", seed=9)
    with pytest.raises(DataError, match="other files than a moment ago"):
        hold_out(folder, scans, share=0.3, worker="client1")
