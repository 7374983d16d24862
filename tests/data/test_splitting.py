import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from data.discovery import opened_dataset
from data.splitting import SplitPlan, SplitSettings, document, inspect, plan, write
from fednet.errors import DataError, DiskFull
from tests.data.scans import write_folder, write_kaggle, write_scan

REAL = Path(__file__).resolve().parents[3] / "shared" / "brain-tumor-mri"


def planned(folder: Path, settings: SplitSettings) -> SplitPlan:
    with opened_dataset(folder) as files:
        return plan(*inspect(files, max_bad_fraction=0.01), settings)


def split(folder: Path, out: Path, settings: SplitSettings, *, force: bool = False, link: bool = False) -> SplitPlan:
    with opened_dataset(folder) as files:
        made = plan(*inspect(files, max_bad_fraction=0.01), settings)
        write(made, out, link=link, force=force)
    return made


THREE = SplitSettings(clients=3)


def test_the_published_test_set_is_the_servers(tmp_path: Path) -> None:
    counts = planned(write_kaggle(tmp_path), THREE).counts()
    assert counts["server_data/test"] == [3, 3, 3, 3]
    assert counts["server_data/validation"] == [1, 1, 1, 1]
    assert [sum(counts[f"client{number}_data"]) for number in (1, 2, 3)] == [12, 12, 12]


def test_a_training_twin_of_a_test_image_goes_to_nobody_and_of_twins_in_training_one_is_kept(tmp_path: Path) -> None:
    write_kaggle(tmp_path)
    shutil.copy(tmp_path / "Testing/no_tumor/scan000.png", tmp_path / "Training/no_tumor/copy.png")
    shutil.copy(tmp_path / "Training/glioma_tumor/scan001.png", tmp_path / "Training/glioma_tumor/twin.png")
    made = planned(tmp_path, THREE)
    left_out = {each.scan.name: each.reason for each in made.placed if each.reason}
    assert left_out == {
        "Training/no_tumor/copy.png": "twin in the test set: Testing/no_tumor/scan000.png",
        "Training/glioma_tumor/twin.png": "twin in the training set: Training/glioma_tumor/scan001.png",
    }


def test_twins_with_different_classes_are_both_left_out_of_training(tmp_path: Path) -> None:
    write_kaggle(tmp_path)
    shutil.copy(tmp_path / "Training/glioma_tumor/scan001.png", tmp_path / "Training/no_tumor/same.png")
    assert planned(tmp_path, THREE).reasons() == {"twins with different classes": 2}


def test_no_group_of_twins_spans_two_sides(tmp_path: Path) -> None:
    write_kaggle(tmp_path)
    for index in range(5):
        shutil.copy(
            tmp_path / "Training/glioma_tumor" / f"scan00{index}.png", tmp_path / f"Testing/glioma_tumor/t{index}.png"
        )
    for settings in (THREE, SplitSettings(clients=3, test_from="resplit")):
        made = planned(tmp_path, settings)
        sides: dict[int, set[str]] = {}
        for each, group in zip(made.placed, made.groups.of.tolist(), strict=True):
            if each.side:
                sides.setdefault(group, set()).add(each.side)
        assert all(len(found) == 1 for found in sides.values())


def test_a_resplit_pools_everything_and_takes_a_fifth(tmp_path: Path) -> None:
    made = planned(write_kaggle(tmp_path, training=12, testing=8), SplitSettings(clients=2, test_from="resplit"))
    assert made.counts()["server_data/test"] == [4, 4, 4, 4]


def test_a_flat_set_has_no_published_test(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--test-from resplit"):
        planned(write_folder(tmp_path), THREE)


def test_the_same_seed_gives_the_same_split_byte_for_byte(tmp_path: Path) -> None:
    folder = write_kaggle(tmp_path / "set")
    settings = SplitSettings(clients=3, scheme="dirichlet", seed=5)
    for out in ("a", "b"):
        split(folder, tmp_path / out, settings)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*"))
    assert files == sorted(path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*"))
    for name in files:
        if (tmp_path / "a" / name).is_file():
            assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_split_json_has_every_files_hash_and_place_or_reason(tmp_path: Path) -> None:
    split(write_kaggle(tmp_path / "set"), tmp_path / "out", THREE)
    found = json.loads((tmp_path / "out" / "split.json").read_text())
    assert len(found["files"]) == 52
    for entry in found["files"]:
        assert len(entry["sha256"]) == 64
        assert (entry["place"] is None) != (entry["left_out"] is None)
        assert (tmp_path / "out" / entry["place"]).is_file()


@pytest.mark.parametrize("link", [True, False])
def test_files_are_linked_or_copied(tmp_path: Path, link: bool) -> None:
    split(write_kaggle(tmp_path / "set"), tmp_path / "out", THREE, link=link)
    placed = next((tmp_path / "out" / "client1_data").rglob("*.png"))
    assert placed.stat().st_nlink == (2 if link else 1)


def test_a_split_that_is_there_is_not_replaced_without_force(tmp_path: Path) -> None:
    folder = write_kaggle(tmp_path / "set")
    split(folder, tmp_path / "out", SplitSettings(clients=5))
    with pytest.raises(DataError, match="--force"):
        split(folder, tmp_path / "out", THREE)
    split(folder, tmp_path / "out", THREE, force=True)
    assert not (tmp_path / "out" / "client4_data").exists()


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_kaggle(tmp_path / "set")
    out = tmp_path / "out"
    split(folder, out, THREE)
    before = (out / "split.json").read_bytes()

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DiskFull):
        split(folder, out, SplitSettings(clients=4), force=True)
    assert (out / "split.json").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == [
        "client1_data",
        "client2_data",
        "client3_data",
        "server_data",
        "split.json",
    ]


def test_broken_files_are_listed_and_too_many_are_refused(tmp_path: Path) -> None:
    write_kaggle(tmp_path, training=30)
    (tmp_path / "Training/glioma_tumor/broken.jpg").write_bytes(b"no picture")
    assert document(planned(tmp_path, THREE))["unreadable"] == ["broken.jpg"]
    for index in range(5):
        (tmp_path / f"Training/glioma_tumor/broken{index}.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="--max-bad-files"):
        planned(tmp_path, THREE)


def test_fewer_images_than_sites_are_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "Training/glioma_tumor/a.png", 1)
    write_scan(tmp_path / "Testing/glioma_tumor/b.png", 2)
    with pytest.raises(DataError, match="1 training images for 3 sites"):
        planned(tmp_path, THREE)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the public data set is not at {REAL.name} beside the project")
def test_the_public_data_set_splits_without_twins_across_sides() -> None:
    made = planned(REAL, SplitSettings())
    counts = made.counts()
    assert counts["server_data/test"] == [100, 115, 105, 74]
    assert made.groups.exact_pairs == 371
    assert made.reasons()["twin in the test set"] > 200
