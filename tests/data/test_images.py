from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import BadFile, decode, load_folder
from fednet.errors import DataError
from tests.data.scans import write_folder, write_scan


def test_scans_come_in_a_fixed_order_as_grey_bytes(tmp_path: Path) -> None:
    scans = load_folder(write_folder(tmp_path), image_size=16)
    assert scans.images.shape == (12, 1, 16, 16)
    assert scans.images.dtype == torch.uint8
    assert scans.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(scans.images, load_folder(tmp_path, image_size=16).images)
    assert scans.class_counts() == {"glioma": 3, "meningioma": 3, "no_tumor": 3, "pituitary": 3}


def test_a_few_broken_files_are_skipped_and_listed(tmp_path: Path) -> None:
    write_folder(tmp_path, per_class=30)
    (tmp_path / "glioma_tumor" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    scans = load_folder(tmp_path, image_size=16)
    assert len(scans.labels) == 120
    assert [bad.path.name for bad in scans.skipped] == ["broken.jpg"]


def test_a_truncated_file_is_broken_too(tmp_path: Path) -> None:
    write_folder(tmp_path, per_class=30)
    path = tmp_path / "no_tumor" / "scan000.png"
    path.write_bytes(path.read_bytes()[:100])
    assert [bad.path.name for bad in load_folder(tmp_path, image_size=16).skipped] == ["scan000.png"]


def test_too_many_broken_files_are_refused_with_the_first_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "glioma_tumor" / "broken.jpg").write_bytes(b"no")
    with pytest.raises(DataError, match=r"1 of 13 image files cannot be read.*broken\.jpg.*--max-bad-files"):
        load_folder(tmp_path, image_size=16)
    assert len(load_folder(tmp_path, image_size=16, max_bad_fraction=0.1).labels) == 12


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        load_folder(tmp_path, image_size=16)


def test_deep_greys_keep_their_contrast(tmp_path: Path) -> None:
    ramp = np.linspace(1000, 5000, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    pixels = decode(tmp_path / "deep.png", 16)
    assert not isinstance(pixels, BadFile)
    assert np.abs(pixels.astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


def test_an_image_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    found = decode(tmp_path / "huge.png", 16)
    assert isinstance(found, BadFile)
    assert "9000 x 9000 pixels" in found.reason


def test_a_jpeg_can_be_decoded_whole_where_images_are_compared(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 300), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "scan.jpg")
    with Image.open(tmp_path / "scan.jpg") as image:
        expected = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BILINEAR))
    whole, fraction = (decode(tmp_path / "scan.jpg", 32, from_all_pixels=whole) for whole in (True, False))
    assert not isinstance(whole, BadFile) and not isinstance(fraction, BadFile)
    assert np.array_equal(whole, expected)
    assert not np.array_equal(fraction, expected)


@pytest.mark.parametrize("make", ["missing", "empty", "flat"])
def test_a_folder_that_is_none_of_ours_is_named(tmp_path: Path, make: str) -> None:
    folder = tmp_path / "data"
    if make != "missing":
        folder.mkdir()
    if make == "flat":
        write_scan(folder / "scan.png", 1)
    with pytest.raises(DataError, match="data"):
        load_folder(folder, image_size=16)


def test_an_unknown_class_folder_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "cats").mkdir()
    with pytest.raises(DataError, match=r"cats; found a name that is no class"):
        load_folder(tmp_path, image_size=16)


def test_class_folders_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "glioma").mkdir()
    with pytest.raises(DataError, match="no readable image"):
        load_folder(tmp_path, image_size=16)
