import errno
import os
import zipfile
from pathlib import Path

import pytest

from data.discovery import find_dataset, opened_dataset
from fednet.errors import DataError, DiskFull
from tests.data.scans import write_folder, write_kaggle


def test_kaggles_layout_keeps_its_parts_apart(tmp_path: Path) -> None:
    with opened_dataset(write_kaggle(tmp_path)) as files:
        assert sum(each.is_testing for each in files) == 12
        assert len(files) == 52
        assert files[0].name.startswith("Testing/glioma_tumor/")


def test_a_flat_folder_has_no_published_test_set(tmp_path: Path) -> None:
    with opened_dataset(write_folder(tmp_path)) as files:
        assert not any(each.is_testing for each in files)
        assert len(files) == 12


def zipped(path: Path, folder: Path, *, around: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for scan in sorted(folder.rglob("*.png")):
            archive.write(scan, around + scan.relative_to(folder).as_posix())
    return path


@pytest.mark.parametrize("around", ["", "Brain-Tumor-Classification-DataSet-master/"])
def test_kaggles_zip_is_read_as_it_downloads(tmp_path: Path, around: str) -> None:
    folder = write_kaggle(tmp_path / "set", training=2, testing=1)
    with opened_dataset(zipped(tmp_path / "archive.zip", folder, around=around)) as files:
        assert len(files) == 12
        kept = files[0].path
        assert kept.exists()
    assert not kept.exists()


def test_what_a_mac_adds_to_a_zip_is_no_data(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", write_kaggle(tmp_path / "set", training=2, testing=1), around="archive/")
    with zipfile.ZipFile(path, "a") as archive:
        for part in ("Training", "Testing"):
            archive.writestr(f"__MACOSX/{part}/no_tumor/._scan000.png", b"resource fork")
    with opened_dataset(path) as files:
        assert len(files) == 12


def test_no_room_to_unpack_a_zip_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(archive: zipfile.ZipFile, folder: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = zipped(tmp_path / "a.zip", write_kaggle(tmp_path / "set", training=1, testing=1))
    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(DiskFull), opened_dataset(path):
        pass


@pytest.mark.parametrize("where", ["brain-tumor-mri", "."])
def test_the_data_set_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    write_kaggle(tmp_path / where)
    monkeypatch.chdir(tmp_path)
    assert find_dataset(None).resolve() == (tmp_path / where).resolve()


def test_class_folders_in_the_current_folder_are_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_folder(tmp_path))
    assert find_dataset(None).resolve() == tmp_path.resolve()


def test_a_hospitals_folder_is_never_taken_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "client1_data")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="none in the current folder"):
        find_dataset(None)


def test_the_zip_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zipped(tmp_path / "archive.zip", write_kaggle(tmp_path / "kept elsewhere" / "set", training=1, testing=1))
    (tmp_path / "another.zip").write_bytes(b"no zip")
    monkeypatch.chdir(tmp_path)
    assert find_dataset(None).name == "archive.zip"


def test_no_data_set_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="Kaggle"):
        find_dataset(None)
    with pytest.raises(DataError, match=r"set\.zip; found no such file.*Kaggle"):
        find_dataset(Path("set.zip"))


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("no zip", "no readable zip"),
        ("half a zip", "no readable zip"),
        ("a zip of cats", "no class folders"),
        ("no classes", "no class folders"),
        ("no images", "class folders without an image"),
        ("two sets", "several in it: client1_data, client2_data"),
    ],
)
def test_what_is_no_data_set_is_named(tmp_path: Path, kind: str, complaint: str) -> None:
    path = tmp_path / "set.zip"
    match kind:
        case "no zip":
            path.write_bytes(os.urandom(100))
        case "half a zip":
            zipped(path, write_folder(tmp_path / "set"))
            path.write_bytes(path.read_bytes()[:-200])
        case "a zip of cats":
            zipped(path, write_folder(tmp_path / "set"), around="cats/dogs/")
        case "no classes":
            (path / "images").mkdir(parents=True)
        case "no images":
            (path / "no_tumor").mkdir(parents=True)
        case _:
            write_folder(path / "client1_data", 1)
            write_folder(path / "client2_data", 1)
    with pytest.raises(DataError, match=rf"set\.zip; found {complaint}"), opened_dataset(path):
        pass
