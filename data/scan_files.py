"""One scan file of whatever format as slices: pictures, DICOM, NIfTI; what cannot be read is a `DataError`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from data.greys import refuse_large
from data.slices import Choice, Slice
from fednet.errors import DataError

_DICOM = (".dcm", ".dicom", ".ima")
_NIFTI = (".nii", ".nii.gz")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", *_DICOM, *_NIFTI)
_PREAMBLE = 128  # bytes before DICM


def is_scan_file(path: Path) -> bool:
    """Whether this is a file to read: by its suffix or, where it has none, by DICM after its preamble."""
    if path.name.startswith("."):
        return False
    return path.name.lower().endswith(SUFFIXES) or _is_unnamed_dicom(path)


def read_slices(path: Path, choice: Choice, *, size: int | None = None, in_colour: bool = False) -> Iterator[Slice]:
    """Yield the chosen slices of a file; raises `DataError` with the reason alone, which names no path.

    With `size` a large JPEG is decoded at a fraction of its pixels that still has this many a side, more than twice as
    fast; `in_colour` keeps its colours.
    """
    name = path.name.lower()
    try:
        if name.endswith(_NIFTI):
            from data.nifti import nifti_slices

            yield from nifti_slices(path, choice)
        elif name.endswith(_DICOM) or _is_unnamed_dicom(path):
            from data.dicom import dicom_slices

            yield from dicom_slices(path, choice)
        else:
            yield from _picture(path, choice, size=size, in_colour=in_colour)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise DataError(reason.replace(str(path), path.name) or type(exc).__name__) from exc


def _is_unnamed_dicom(path: Path) -> bool:
    """Whether a file without suffix (digits are part of a UID, not one) is DICOM; a DICOMDIR is a list of others."""
    suffix = path.suffix[1:]
    if (suffix and not suffix.isdigit()) or path.name.upper() == "DICOMDIR" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def _picture(path: Path, choice: Choice, *, size: int | None, in_colour: bool) -> Iterator[Slice]:
    with Image.open(path) as image:
        numbers = choice.of(1)
        refuse_large(image.width, image.height)
        if size is not None:
            image.draft(None if in_colour else "L", (size, size))
        image.load()
        yield from (Slice(image, number) for number in numbers)
