import os
import zipfile
from pathlib import Path

import pytest

from data.discovery import opened_dataset
from fednet.errors import DataError
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


@pytest.mark.parametrize("around", ["", "Brain-Tumor-Classification-DataSet-master/"])
def test_kaggles_zip_is_read_as_it_downloads(tmp_path: Path, around: str) -> None:
    folder = write_kaggle(tmp_path / "set", training=2, testing=1)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, around + path.relative_to(folder).as_posix())
    with opened_dataset(tmp_path / "archive.zip") as files:
        assert len(files) == 12
        kept = files[0].path
        assert kept.exists()
    assert not kept.exists()


def test_the_data_set_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kaggle(tmp_path / "brain-tumor-mri")
    monkeypatch.chdir(tmp_path)
    with opened_dataset(None) as files:
        assert len(files) == 52


def test_no_data_set_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="Kaggle"), opened_dataset(None):
        pass


@pytest.mark.parametrize("kind", ["missing", "no zip", "no classes"])
def test_what_is_no_data_set_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "set.zip"
    if kind == "no zip":
        path.write_bytes(os.urandom(100))
    if kind == "no classes":
        (path / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"set\.zip"), opened_dataset(path):
        pass
