import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from data import dicom
from data.greys import Pixels
from data.images import BadFile, decode, load_folder
from data.scan_files import read_slices
from data.slices import ALL, MIDDLE, Choice
from fednet.errors import DataError
from tests.data.medical import PATIENT, dicom_of, write_dicom
from tests.data.scans import write_folder

DEEP = np.arange(1000, 1000 + 48 * 40, dtype=np.uint16).reshape(48, 40)
BYTES = np.random.default_rng(0).integers(0, 255, (48, 40), dtype=np.uint8)


def packaged(name: str) -> Path:
    """Return a file that pydicom brings: none is downloaded."""
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str)
    return Path(found)


def shown(path: Path, choice: Choice = MIDDLE) -> list[Pixels]:
    return [np.asarray(each.image) for each in read_slices(path, choice)]


def as_png(path: Path, pixels: Pixels) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("pixels", [BYTES, DEEP], ids=["8 bits", "16 bits"])
def test_a_dicom_file_is_read_as_the_png_of_the_same_pixels(tmp_path: Path, pixels: Pixels) -> None:
    scan = decode(write_dicom(tmp_path / "scan.dcm", pixels), 32)
    picture = decode(as_png(tmp_path / "scan.png", pixels), 32)
    assert not isinstance(scan, BadFile) and not isinstance(picture, BadFile)
    assert np.array_equal(scan, picture)


def test_rescaling_comes_before_the_window(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 2, "RescaleIntercept": -2000, "WindowCenter": 1000.5, "WindowWidth": 1001}
    (pixels,) = shown(write_dicom(tmp_path / "a.dcm", DEEP, **tags))
    expected = np.clip((2.0 * DEEP - 2000 - 1000) / 1000 + 0.5, 0, 1) * 255
    assert np.abs(pixels - expected).max() <= 0.5


@pytest.mark.parametrize(("function", "middle"), [("LINEAR_EXACT", 127.5), ("SIGMOID", 127.5)])
def test_other_window_functions_have_their_formula(tmp_path: Path, function: str, middle: float) -> None:
    tags = {"WindowCenter": 1500, "WindowWidth": 400, "VOILUTFunction": function}
    (pixels,) = shown(write_dicom(tmp_path / "a.dcm", DEEP, **tags))
    assert abs(float(pixels[DEEP == 1500][0]) - middle) <= 0.5
    assert pixels[0, 0] <= 2 and pixels[-1, -1] >= 250


def test_the_first_of_several_windows_counts(tmp_path: Path) -> None:
    one = shown(write_dicom(tmp_path / "a.dcm", DEEP, WindowCenter=1500, WindowWidth=400))
    several = shown(write_dicom(tmp_path / "b.dcm", DEEP, WindowCenter=[1500, 9], WindowWidth=[400, 3]))
    assert np.array_equal(one, several)


def test_monochrome1_is_turned_round(tmp_path: Path) -> None:
    (pixels,) = shown(write_dicom(tmp_path / "a.dcm", BYTES, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(pixels, 255 - BYTES)


def test_colour_stays_colour_until_it_is_made_grey(tmp_path: Path) -> None:
    red = np.zeros((20, 20, 3), dtype=np.uint8)
    red[..., 0] = 200
    path = write_dicom(tmp_path / "a.dcm", red, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    assert np.array_equal(shown(path)[0], red)
    assert not isinstance(found := decode(path, 20), BadFile)
    assert np.array_equal(found, np.asarray(Image.fromarray(red).convert("L")))


def test_frames_are_chosen_and_have_their_own_rescaling(tmp_path: Path) -> None:
    frames = np.stack([np.full((4, 4), level, dtype=np.uint16) for level in (10, 20, 30)])
    made = dicom_of(frames)
    made.PerFrameFunctionalGroupsSequence = [_rescaled(slope) for slope in (1, 2, 3)]
    window = Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 50, 100, "LINEAR_EXACT"
    shared = Dataset()
    shared.FrameVOILUTSequence = [window]
    made.SharedFunctionalGroupsSequence = [shared]
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    levels = [float(each[0, 0]) for each in shown(tmp_path / "a.dcm", ALL)]
    assert levels == pytest.approx([25.5, 102, 229.5], abs=0.6)  # 10, 40 and 90 hundredths of 255
    assert [each.number for each in read_slices(tmp_path / "a.dcm", MIDDLE)] == [1]
    assert [each.number for each in read_slices(tmp_path / "a.dcm", Choice((0, 2)))] == [0, 2]
    with pytest.raises(DataError, match="no slice 3; expected 0 to 2"):
        list(read_slices(tmp_path / "a.dcm", Choice((3,))))


def _rescaled(slope: int) -> Dataset:
    values, group = Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept = slope, 0
    group.PixelValueTransformationSequence = [values]
    return group


def test_lossless_forms_of_one_scan_are_the_same(tmp_path: Path) -> None:
    plain = shown(packaged("MR_small.dcm"))[0]
    for name in ("MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm"):
        assert np.array_equal(shown(packaged(name))[0], plain), name
    made = dicom_of(DEEP)
    made.compress(RLELossless)
    made.save_as(tmp_path / "rle.dcm", enforce_file_format=True)
    assert np.array_equal(shown(tmp_path / "rle.dcm")[0], shown(write_dicom(tmp_path / "a.dcm", DEEP))[0])


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("image_dfl.dcm", "L"),
        ("SC_rgb_jpeg_dcmtk.dcm", "RGB"),
        ("SC_ybr_full_422_uncompressed.dcm", "RGB"),
        ("SC_rgb_rle_16bit_2frame.dcm", "RGB"),
        ("examples_palette.dcm", "RGB"),
        ("693_J2KI.dcm", "L"),
    ],
)
def test_files_that_pydicom_brings_are_read(name: str, mode: str) -> None:
    (found,) = read_slices(packaged(name), MIDDLE)
    assert found.image.mode == mode
    assert len(set(found.image.convert("L").tobytes())) > 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", r"JPEG-LS Lossless.*Install .*pyjpegls"),
        ("SC_rgb_jpeg_gdcm.dcm", r"JPEG Lossless.*Install .*pylibjpeg-libjpeg"),
        ("JPEG-lossy.dcm", r"JPEG Extended.*refuse.*Install .*pylibjpeg"),
        ("MR_truncated.dcm", "damaged or cut short"),
        ("rtplan.dcm", "without pixel data"),
        ("rtplan_truncated.dcm", "without pixel data"),
        ("no_meta.dcm", "no DICM after its preamble"),
        ("meta_missing_tsyntax.dcm", "no known transfer syntax"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        list(read_slices(packaged(name), ALL))


@pytest.mark.parametrize("kept", [0, 100, 131, 140, 300, 600, 900, 2000])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", DEEP)
    path.write_bytes(path.read_bytes()[:kept])
    assert isinstance(decode(path, 16), BadFile)


def test_a_file_of_many_frames_that_is_cut_short_is_refused_whatever_frame_is_asked(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((5, 30, 30), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-100])
    assert isinstance(decode(path, 16), BadFile)


def test_damaged_bytes_never_get_further_than_a_reason(tmp_path: Path) -> None:
    whole = write_dicom(tmp_path / "a.dcm", BYTES[:8, :8], WindowCenter=100, WindowWidth=50).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(128, len(whole), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "a.dcm").write_bytes(damaged)
        found = decode(tmp_path / "a.dcm", 8)
        if isinstance(found, BadFile):
            assert "Mustermann" not in found.reason


def test_no_patient_is_named_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    made = dicom_of(BYTES)
    made.RescaleIntercept, made.RescaleSlope = "0", "1"
    made.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    content = (tmp_path / "a.dcm").read_bytes()
    assert PATIENT.encode() in content
    (tmp_path / "a.dcm").write_bytes(content.replace(b"(\x00S\x10DS\x02\x001 ", b"(\x00S\x10DS\x02\x00Mu"))
    with caplog.at_level(logging.DEBUG), pytest.raises(DataError, match="damaged") as refused:
        list(read_slices(tmp_path / "a.dcm", MIDDLE))
    assert "Mu" not in str(refused.value)
    printed = capsys.readouterr()
    assert "Mu" not in caplog.text + printed.out + printed.err


def test_size_is_checked_before_any_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "a.dcm", BYTES, Rows=40000, Columns=40000)
    with pytest.raises(DataError, match="40000 x 40000 x 1 pixels, the limit"):
        list(read_slices(path, MIDDLE))
    path = write_dicom(tmp_path / "b.dcm", BYTES, NumberOfFrames=10**6)
    with pytest.raises(DataError, match="1000000 slices"):
        list(read_slices(path, MIDDLE))
    made = dicom_of(np.zeros((300, 300), dtype=np.uint16))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    made.save_as(tmp_path / "c.dcm", enforce_file_format=True)
    assert len(shown(tmp_path / "c.dcm")) == 1
    monkeypatch.setattr(dicom, "_MAX_BYTES", 100_000)
    with pytest.raises(DataError, match="once inflated"):
        list(read_slices(tmp_path / "c.dcm", MIDDLE))


def test_class_folders_may_hold_dicom_with_and_without_suffix(tmp_path: Path) -> None:
    write_folder(tmp_path, per_class=2)
    glioma = tmp_path / "glioma_tumor"
    write_dicom(glioma / "a.dcm", BYTES)
    write_dicom(glioma / "IM0001", BYTES)
    write_dicom(glioma / "1.2.840.113619.2", BYTES)
    write_dicom(glioma / "DICOMDIR", BYTES)
    (glioma / "README").write_text("no scan")
    scans = load_folder(tmp_path, image_size=16)
    assert scans.class_counts() == {"glioma": 5, "meningioma": 2, "no_tumor": 2, "pituitary": 2}
    assert scans.skipped == ()
