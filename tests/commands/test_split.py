import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from data.classes import FOLDERS
from data.phantoms import phantom_set
from tests.commands.running import run
from tests.data.medical import write_dicom, write_nifti
from tests.data.scans import write_kaggle
from tests.models.saved import write_model


def test_a_split_prints_its_table_and_leaves_record_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kaggle(tmp_path / "set")
    ran = run(capsys, "split", tmp_path / "set", "--out", tmp_path, "--clients", 3)
    assert ran.code == 0, ran.err
    assert "client3_data" in ran.out
    assert "Duplicates: 0 exact pairs" in ran.out
    assert (tmp_path / "split.json").exists() and (tmp_path / "split.png").exists()


def test_json_is_the_record_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "split", "--phantoms", "--phantom-images", 60, "--phantom-size", 16, "--out", tmp_path, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == json.loads((tmp_path / "split.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "data set nowhere; found no such file"),
        ([], "none given and none in the current folder"),
        (["--clients", "0"], "--clients"),
        (["--scheme", "magic"], "--scheme"),
        (["nowhere", "--phantoms"], "not both"),
    ],
)
def test_wrong_use_is_exit_code_2_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, "split", *arguments)
    assert ran.code == 2
    assert complaint in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_second_split_needs_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_kaggle(tmp_path / "set")
    arguments = ("split", tmp_path / "set", "--out", tmp_path, "--clients", 2)
    assert run(capsys, *arguments).code == 0
    assert "--force" in run(capsys, *arguments).err
    assert run(capsys, *arguments, "--force").code == 0


def test_the_data_set_of_the_current_folder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_kaggle(tmp_path / "brain-tumor-mri")
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "split", "--clients", 2).err == "Reading brain-tumor-mri, found in the current folder.\n"


def test_warnings_and_skipped_files_never_touch_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_kaggle(tmp_path / "set", training=40)
    shutil.rmtree(tmp_path / "set" / "Testing" / "glioma_tumor")
    (tmp_path / "set" / "Training" / "no_tumor" / "broken.jpg").write_bytes(b"no picture")
    ran = run(capsys, "split", tmp_path / "set", "--out", tmp_path, "--json")
    assert json.loads(ran.out)["arguments"]["dataset"] == "set"
    assert ran.err.splitlines() == [
        "skipped Training/no_tumor/broken.jpg: cannot be read (cannot identify image file 'broken.jpg')",
        "Warning: the test set has no image of glioma: its figures say nothing about it.",
    ]


def test_no_path_of_the_unpacked_zip_is_shown_or_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_kaggle(tmp_path / "set", training=40)
    (folder / "Training" / "no_tumor" / "broken.jpg").write_bytes(b"no picture")
    shutil.make_archive(str(tmp_path / "set"), "zip", folder)
    ran = run(capsys, "split", tmp_path / "set.zip", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "skipped Training/no_tumor/broken.jpg" in ran.err
    assert str(tempfile.gettempdir()) not in ran.err.replace(str(tmp_path), "")
    assert tempfile.gettempdir() not in (tmp_path / "out" / "split.json").read_text()


def test_phantoms_are_the_same_for_the_same_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for out in ("a", "b"):
        arguments = ("split", "--phantoms", "--phantom-images", 60, "--phantom-size", 16, "--out", tmp_path / out)
        assert run(capsys, *arguments).code == 0
        documents.append((tmp_path / out / "split.json").read_bytes())
    assert documents[0] == documents[1]
    assert json.loads(documents[0])["arguments"]["dataset"] == "60 phantoms of 16 pixels"


def test_scans_as_hospitals_store_them_are_split_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, (pixels, label) in enumerate(phantom_set(40, seed=4, size=32)):
        folder = tmp_path / "set" / FOLDERS[label]
        folder.mkdir(parents=True, exist_ok=True)
        if place % 2:
            write_dicom(folder / f"scan{place}.dcm", pixels)
        else:
            write_nifti(folder / f"scan{place}.nii.gz", pixels[np.newaxis])
    write_dicom(tmp_path / "set" / FOLDERS[0] / "twin.dcm", phantom_set(1, seed=4, size=32)[0][0])
    choices = ["--clients", 2, "--test-from", "resplit", "--out", tmp_path / "out", "--json"]
    ran = run(capsys, "split", tmp_path / "set", *choices)
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    assert record["near_duplicate_pairs"] == 1
    assert sum(sum(counts) for counts in record["sites"].values()) == 40
    model = write_model(tmp_path / "final.pth")
    judged = run(capsys, "evaluate", "--model", model, "--data", tmp_path / "out" / "client1_data", "--json")
    assert json.loads(judged.out)["images"] == sum(record["sites"]["client1_data"])
