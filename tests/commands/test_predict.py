import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from data.classes import CLASSES
from data.phantoms import phantom_set
from tests.commands.running import run
from tests.data.medical import write_dicom, write_nifti
from tests.data.test_plausibility import photo
from tests.models.saved import write_model

SLICES = np.stack([pixels for pixels, _ in phantom_set(5, seed=11, size=48)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "final.pth")


def document(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    ran = run(capsys, "predict", *arguments, "--json", "--device", "cpu")
    assert ran.code == code, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def probabilities(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[float]:
    (scan,) = document(capsys, *arguments)["scans"]
    return [*scan["probabilities"].values()]


def test_one_scan_gets_one_answer_whatever_it_is_stored_as(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(SLICES[2]).save(tmp_path / "scan.png")
    expected = probabilities(capsys, "--model", model, tmp_path / "scan.png")
    assert sum(expected) == pytest.approx(1)
    scans = [
        write_dicom(tmp_path / "scan.dcm", SLICES[2]),
        write_dicom(tmp_path / "IM0001", SLICES[2]),
        write_dicom(tmp_path / "inverted.dcm", 255 - SLICES[2], PhotometricInterpretation="MONOCHROME1"),
        write_nifti(tmp_path / "scan.nii.gz", SLICES[2:3]),
    ]
    for scan in scans:
        assert probabilities(capsys, "--model", model, scan) == expected, scan


def test_a_volume_is_answered_by_the_vote_of_its_slices(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, pixels in enumerate(SLICES):
        Image.fromarray(pixels).save(tmp_path / f"slice{number}.png")
    single = document(capsys, "--model", model, tmp_path)["scans"]
    assert [Path(each["file"]).name for each in single] == [f"slice{number}.png" for number in range(5)]
    mean = {name: float(np.mean([each["probabilities"][name] for each in single])) for name in CLASSES}
    with_an_empty_one = np.concatenate([SLICES, np.zeros((1, 48, 48), dtype=np.uint8)])
    for volume in (
        write_nifti(tmp_path / "a.nii", with_an_empty_one),
        write_dicom(tmp_path / "a.dcm", with_an_empty_one),
    ):
        (scan,) = document(capsys, "--model", model, volume)["scans"]
        assert scan["probabilities"] == pytest.approx(mean, abs=1e-6)
        assert scan["slices"] == 5
        assert sum(scan["votes"].values()) == 5
        (one,) = document(capsys, "--model", model, volume, "--slices", "3")["scans"]
        assert one["probabilities"] == pytest.approx(single[3]["probabilities"], abs=1e-6)
    said = run(capsys, "predict", "--model", model, tmp_path / "a.nii")
    assert "votes of 5 slices: " in said.out


def test_a_scan_that_cannot_be_read_stops_no_other(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_dicom(tmp_path / "good.dcm", SLICES[0])
    plan = get_testdata_file("rtplan.dcm", download=False)
    compressed = get_testdata_file("MR_small_jpeg_ls_lossless.dcm", download=False)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    (tmp_path / "empty").mkdir()
    bad = [tmp_path / "broken.png", plan, compressed, tmp_path / "nowhere.dcm", tmp_path / "empty"]
    ran = run(capsys, "predict", "--model", model, *bad[:2], good, *bad[2:])
    assert ran.code == 1
    assert ran.out.startswith(f"{good}: ")
    complaints = [line for line in ran.err.splitlines() if line.startswith("Cannot read ")]
    assert len(complaints) == len(bad)
    for word, line in zip(
        ("broken.png", "pixel data", "JPEG-LS", "no such file", "without a scan"), complaints, strict=True
    ):
        assert word in line
    assert run(capsys, "predict", "--model", model, *bad).code == 2
    assert [each["file"] for each in document(capsys, "--model", model, *bad, good, code=1)["unreadable"]] == [
        *map(str, bad)
    ]


def test_a_colour_photo_is_warned_of_and_a_head_is_not(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo().save(tmp_path / "cat.jpg")
    Image.fromarray(SLICES[0]).save(tmp_path / "head.jpg")
    cat, head = document(capsys, "--model", model, tmp_path / "cat.jpg", tmp_path / "head.jpg")["scans"]
    assert "it is in colour" in cat["warnings"]
    assert head["warnings"] == []
    assert "Warning: hardly an MRI slice" in run(capsys, "predict", "--model", model, tmp_path / "cat.jpg").out


def test_an_energy_above_the_models_own_limit_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "strict.pth", extra={"max_energy": -1000.0})
    scan = write_dicom(tmp_path / "a.dcm", SLICES[0])
    assert "energy" in document(capsys, "--model", model, scan)["scans"][0]["warnings"][0]


def test_the_model_abstains_where_it_is_not_sure_enough(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_dicom(tmp_path / "a.dcm", SLICES[0])
    assert document(capsys, "--model", model, scan)["scans"][0]["class"] in CLASSES
    careful = document(capsys, "--model", model, scan, "--threshold", "1")
    assert careful["scans"][0]["class"] is None and careful["threshold"] == 1
    own = write_model(tmp_path / "own.pth", extra={"threshold": 1.0})
    assert document(capsys, "--model", own, scan)["scans"][0]["abstained"]
    assert not document(capsys, "--model", own, scan, "--threshold", "0")["scans"][0]["abstained"]
    assert ": no answer: " in run(capsys, "predict", "--model", own, scan).out


def test_a_model_that_brings_no_calibration_is_said_to(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = write_dicom(tmp_path / "a.dcm", SLICES[0])
    own = write_model(tmp_path / "own.pth", extra={"temperature": 4.0, "threshold": 0.0, "max_energy": 1e9})
    plain, fitted = document(capsys, "--model", model, scan), document(capsys, "--model", own, scan)
    assert [(each["calibrated"], each["temperature"]) for each in (plain, fitted)] == [(False, 1.0), (True, 4.0)]
    assert max(fitted["scans"][0]["probabilities"].values()) < max(plain["scans"][0]["probabilities"].values())
    for options in ([], ["--csv"], ["--json"]):
        assert f"Uncalibrated: {model} brings no" in run(capsys, "predict", "--model", model, scan, *options).err
        assert "ncalibrated" not in run(capsys, "predict", "--model", own, scan, *options).err


def test_the_table_has_a_line_a_scan(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dicom(tmp_path / "a.dcm", SLICES[0])
    photo().save(tmp_path / "b.png")
    ran = run(capsys, "predict", "--model", model, tmp_path, "--csv")
    assert ran.code == 0
    first, second = csv.DictReader(io.StringIO(ran.out))
    assert first["class"] in CLASSES and first["warnings"] == ""
    assert sum(float(first[name]) for name in CLASSES) == pytest.approx(1, abs=1e-5)
    assert "in colour" in second["warnings"]


def test_explanations_are_pictures_of_the_clearest_slice(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = write_nifti(tmp_path / "a.nii", SLICES)
    shutil.copytree(volume.parent, tmp_path / "other", ignore=shutil.ignore_patterns("other"))
    scans = document(capsys, "--model", model, volume, tmp_path / "other", "--explain", tmp_path / "why")["scans"]
    pictures = [Path(each["explanation"]) for each in scans]
    assert [each.name for each in pictures] == ["0001-a.nii.png", "0002-a.nii.png"]
    assert scans[0]["explained_slice"] in range(5)
    pixels = np.asarray(Image.open(pictures[0]))
    assert pixels.shape == (256, 256, 3)
    assert pixels.std() > 5
    assert not np.array_equal(pixels[..., 0], pixels[..., 2])  # in colour


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--slices", "some"], "--slices some"),
        (["--threshold", "2"], "--threshold 2"),
        (["--csv", "--json"], "--csv and --json"),
        (["--device", "toaster"], "--device"),
        (["--explain", __file__], "found a file"),
    ],
)
def test_wrong_use_is_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    ran = run(capsys, "predict", "--model", model, "scan.png", *arguments)
    assert ran.code == 2
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "predict", "--model", "nowhere.pth", "scan.png")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
