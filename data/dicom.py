"""DICOM files as pictures: modality LUT, window, photometric interpretation, frames, compressed transfer syntaxes.

Source: DICOM PS3.3, C.11.1 (modality LUT), C.11.2 (VOI LUT and window), C.7.6.3.1.2 (photometric interpretation).

Of a file only the tags that describe its pixels are asked for. What pydicom says of a damaged file may quote it, so
neither its warnings nor the text of its errors get any further: no patient data is printed or logged.
"""

from __future__ import annotations

import logging
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from data.greys import MAX_PIXELS, Pixels, refuse_large, stretched
from data.slices import Choice, Slice
from fednet.errors import DataError

_Array = npt.NDArray[Any]

_HEADER = (
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_OF_A_FRAME = ("PixelValueTransformationSequence", "FrameVOILUTSequence")  # enhanced MR: rescale and window
_MAX_BYTES = 8 * MAX_PIXELS  # float64, the widest there is; a file is in memory as a whole

_quieting = threading.Lock()


def dicom_slices(path: Path, choice: Choice) -> Iterator[Slice]:
    """Yield the chosen frames, 8-bit grey or RGB. Raises `DataError`, whose text quotes no value of the file."""
    _quieten()
    try:
        yield from _frames(path, choice)
    except DataError:
        raise
    except InvalidDicomError as exc:
        raise DataError("no DICOM file: no DICM after its preamble") from exc
    except Exception as exc:  # pydicom and its decoders raise many kinds; each means: this file is damaged
        if isinstance(exc, OSError) and exc.errno is not None:  # but of the operating system's own
            raise
        raise DataError(f"a DICOM file that is damaged or cut short ({type(exc).__name__})") from exc


def _frames(path: Path, choice: Choice) -> Iterator[Slice]:
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path.stat().st_size} bytes, the limit is {_MAX_BYTES}")
    syntax = _syntax_of(path)
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
    if "Rows" not in header or "Columns" not in header:
        raise DataError("a DICOM file without pixel data, or cut short before it")
    frames = max(1, int(header.get("NumberOfFrames") or 1))
    numbers = choice.of(frames)
    refuse_large(int(header.Columns), int(header.Rows), frames)
    whole = dcmread(path, specific_tags=[*_HEADER, *_PIXELS, *_OFFSETS])
    if not any(name in whole for name in _PIXELS):
        raise DataError("a DICOM file without pixel data, or cut short before it")
    for number, pixels in zip(numbers, _decoded(whole, numbers, syntax), strict=True):
        yield Slice(Image.fromarray(_displayed(pixels, _described(header, number))), number)


def _decoded(whole: Dataset, numbers: list[int], syntax: UID) -> Iterator[_Array]:
    try:
        yield from iter_pixels(whole, indices=numbers)
    except RuntimeError as exc:  # every decoder that is there has refused
        if not syntax.is_encapsulated:
            raise
        found = f"pixels stored as {syntax.name}, which the installed decoders refuse"
        raise DataError(f"{found}: damaged, or of a kind that another one reads", todo=_decoders_for(syntax)) from exc


def _decoders_for(syntax: UID) -> str:
    packages = [each.split(" requires ")[-1] for each in get_decoder(syntax).missing_dependencies]
    return f"install {', or '.join(packages)}".replace("numpy and ", "") if packages else ""


def _syntax_of(path: Path) -> UID:
    """Return how the pixels are stored; raises `DataError` where no installed decoder reads that, naming what would."""
    syntax = UID(read_file_meta_info(path).get("TransferSyntaxUID", ""))
    if not syntax.is_transfer_syntax:
        raise DataError("a DICOM file of no known transfer syntax")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as exc:
        raise DataError(f"pixels stored as {syntax.name}, which nothing here can read") from exc
    if not decoder.is_available:
        raise DataError(f"pixels stored as {syntax.name}, which no installed decoder reads", todo=_decoders_for(syntax))
    if syntax == DeflatedExplicitVRLittleEndian:
        _refuse_bomb(path)
    return syntax


def _refuse_bomb(path: Path) -> None:
    """Raise `DataError` where a deflated file, which pydicom inflates as a whole, is too large inflated."""
    with path.open("rb") as file:
        file.seek(128 + 4)  # preamble, DICM
        length = int.from_bytes(file.read(12)[8:], "little")  # the first element: how long the others of its group are
        file.seek(length, 1)
        inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        pending = file.read()
    while pending and not inflater.eof:
        total += len(inflater.decompress(pending, 2**20))
        pending = inflater.unconsumed_tail
        if total > _MAX_BYTES:
            raise DataError(f"more than {_MAX_BYTES} bytes once inflated, which is the limit")


def _described(header: Dataset, number: int) -> Dataset:
    """Return `header` with what a multi-frame file says of frame `number` in place of what it says of all."""
    found = Dataset()
    found.update(header)
    found.file_meta = header.file_meta
    shared = header.get("SharedFunctionalGroupsSequence") or []
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
    for group in (*shared[:1], *per_frame[number : number + 1]):
        for name in _OF_A_FRAME:
            for item in group.get(name) or []:
                found.update(item)
    return found


def _displayed(pixels: _Array, header: Dataset) -> Pixels:
    """Return decoded pixels as they are to be seen  # (rows, columns) or (rows, columns, 3)."""
    if header.PhotometricInterpretation == "PALETTE COLOR":
        coloured = apply_color_lut(pixels, header)
        return np.asarray(coloured >> 8 * (coloured.itemsize - 1), dtype=np.uint8)
    if header.SamplesPerPixel > 1:  # pydicom has made RGB of YBR
        return np.asarray(pixels >> max(0, header.BitsStored - 8), dtype=np.uint8)
    shown = _windowed(apply_modality_lut(pixels, header), header)
    return 255 - shown if header.PhotometricInterpretation == "MONOCHROME1" else shown


def _windowed(levels: _Array, header: Dataset) -> Pixels:
    """Return grey levels through the VOI LUT or the first window; else bytes as they are, others stretched."""
    if header.get("VOILUTSequence"):
        brightest = 2 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        return np.asarray(apply_voi(np.rint(levels).astype(np.int64), header) * (255 / brightest), dtype=np.uint8)
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is not None and width is not None and width >= 1:
        share = _through_window(levels, center, width, str(header.get("VOILUTFunction") or "LINEAR"))
        return np.rint(share * 255).astype(np.uint8)
    return levels if levels.dtype == np.uint8 and header.BitsStored == 8 else stretched(levels)


def _first(value: Any) -> float | None:
    """Return the number, or the first of several windows that a file offers."""
    if value is None or value == "":
        return None
    return float(value) if isinstance(value, str | int | float) else float(value[0])


def _through_window(levels: _Array, center: float, width: float, function: str) -> npt.NDArray[np.float64]:
    """Return how bright each level is, 0 to 1: PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    values = levels.astype(np.float64)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)  # a width of 1 is a threshold
    return np.clip((values - center) / width + 0.5, 0, 1)


def _quieten() -> None:
    """Keep pydicom from printing or logging what a file holds; again for each file, since others set filters too."""
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with _quieting:
        warnings.filterwarnings("ignore", module=r"pydicom\.|data\.dicom")
