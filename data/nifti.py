"""NIfTI volumes as axial slices, turned as a scanner shows them: the front up, the patient's right on the left."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.funcs import as_closest_canonical
from nibabel.loadsave import load
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from data.greys import refuse_large, stretched
from data.slices import Choice, Slice
from fednet.errors import DataError

_Volume = npt.NDArray[Any]


def nifti_slices(path: Path, choice: Choice) -> Iterator[Slice]:
    """Yield the chosen axial slices, 8-bit grey, numbered from the feet up. Raises `DataError`.

    Bytes stay as they are; other numbers go from the darkest to the brightest of their slice, as in a 16-bit PNG.
    """
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # it prints guesses about odd headers
    try:
        volume = _axial(path)
        for number in choice.of(volume.shape[2]):
            levels = volume[::-1, ::-1, number].T  # right, front and top are where the indices grow
            shown = np.ascontiguousarray(levels) if levels.dtype == np.uint8 else stretched(levels)
            yield Slice(Image.fromarray(shown), number)
    except (DataError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as exc:  # nibabel, gzip and zlib raise many kinds; each means: this file is damaged
        raise DataError(f"a NIfTI file that is damaged or cut short ({type(exc).__name__})") from exc


def _axial(path: Path) -> _Volume:
    """Return the voxels in RAS order  # (x, y, z); their number is checked before any is read."""
    found = load(path)
    if not isinstance(found, Nifti1Image):
        raise DataError(f"a {type(found).__name__}", expected="a NIfTI file of header and voxels in one")
    shape = found.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise DataError(f"{len(shape)} dimensions {shape}", expected="one volume, which has 3")
    refuse_large(*shape)
    turned: Nifti1Image = as_closest_canonical(found)  # type: ignore[no-untyped-call]  # nibabel's
    voxels = np.asarray(turned.dataobj).reshape(turned.shape[:3])
    if voxels.dtype.kind not in "iuf":
        raise DataError("voxels in colour or of complex numbers", expected="grey levels")
    return voxels
