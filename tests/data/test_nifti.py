from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from data.images import BadFile, decode
from data.scan_files import read_slices
from data.slices import ALL, MIDDLE, Choice
from fednet.errors import DataError
from tests.data.medical import write_nifti

SLICES = np.random.default_rng(0).integers(0, 255, (5, 24, 18), dtype=np.uint8)
PACKAGED = Path(nibabel.__file__).parent / "tests" / "data"


@pytest.mark.parametrize("directions", ["RAS", "LPS", "LAS", "RAI"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slices_lie_as_a_scanner_shows_them_however_they_are_stored(tmp_path: Path, name: str, directions: str) -> None:
    path = write_nifti(tmp_path / name, SLICES, directions=directions)
    found = list(read_slices(path, ALL))
    assert [each.number for each in found] == [0, 1, 2, 3, 4]
    assert np.array_equal(np.stack([np.asarray(each.image) for each in found]), SLICES)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_middle_slice_is_read_as_its_png(tmp_path: Path, kind: type[np.unsignedinteger]) -> None:
    slices = SLICES.astype(kind) * kind(1 if kind is np.uint8 else 100)
    Image.fromarray(slices[2]).save(tmp_path / "a.png")
    picture = decode(tmp_path / "a.png", 16)
    volume = decode(write_nifti(tmp_path / "a.nii", slices), 16)
    assert not isinstance(picture, BadFile) and not isinstance(volume, BadFile)
    assert np.array_equal(picture, volume)


def test_slices_are_chosen_by_number(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", SLICES)
    assert [each.number for each in read_slices(path, MIDDLE)] == [2]
    assert [each.number for each in read_slices(path, Choice((0, 4)))] == [0, 4]
    with pytest.raises(DataError, match="no slice 5; expected 0 to 4"):
        list(read_slices(path, Choice((5,))))


def test_files_that_nibabel_brings_are_read() -> None:
    assert len(list(read_slices(PACKAGED / "anatomical.nii", ALL))) == 25
    assert len(list(read_slices(PACKAGED / "standard.nii.gz", ALL))) == 7


@pytest.mark.parametrize("name", ["example4d.nii.gz", "functional.nii"])
def test_several_volumes_in_one_file_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=r"4 dimensions.*expected one volume"):
        list(read_slices(PACKAGED / name, MIDDLE))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = write_nifti(tmp_path / name, SLICES)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="damaged or cut short"):
        list(read_slices(path, MIDDLE))


def test_size_is_checked_before_any_voxel(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape((4000, 4000, 100))  # type: ignore[no-untyped-call]
    (tmp_path / "a.nii").write_bytes(bytes(header.binaryblock) + bytes(4))
    with pytest.raises(DataError, match="4000 x 4000 x 100 pixels, the limit"):
        list(read_slices(tmp_path / "a.nii", MIDDLE))


def test_colour_voxels_are_refused(tmp_path: Path) -> None:
    voxels = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(voxels, np.eye(4)).to_filename(tmp_path / "a.nii")  # type: ignore[no-untyped-call]
    with pytest.raises(DataError, match="in colour"):
        list(read_slices(tmp_path / "a.nii", MIDDLE))
