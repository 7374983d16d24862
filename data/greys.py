"""Grey levels of any depth as the 8 bits that a model sees, and how large a picture may be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from fednet.errors import DataError

Pixels = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float32]

MAX_PIXELS = 2**26  # larger than any slice, smaller than a decompression bomb


def refuse_large(*sides: int) -> None:
    """Raise `DataError` where a picture or volume of these sides has more than `MAX_PIXELS`, or none."""
    if min(sides) < 1 or np.prod(sides, dtype=np.float64) > MAX_PIXELS:
        raise DataError(f"{' x '.join(map(str, sides))} pixels, the limit is {MAX_PIXELS} in all")


def stretched(levels: npt.ArrayLike) -> Pixels:
    """Return numbers of any kind as bytes, from their darkest to their brightest; what is no number counts as 0."""
    values: Levels = np.nan_to_num(np.asarray(levels, dtype=np.float32), posinf=0.0, neginf=0.0)
    values = values - values.min()
    return (values * (255 / max(float(values.max()), 1e-6))).astype(np.uint8)


def grey(image: Image.Image) -> Image.Image:
    """Return 8-bit grey; deeper scans from their darkest to their brightest value, which PIL would clip at 255."""
    if not image.mode.startswith(("I", "F")):
        return image.convert("L")
    return Image.fromarray(stretched(np.asarray(image)))


def square(image: Image.Image, size: int) -> Pixels:
    """Return an image as grey bytes  # (size, size), antialiased; sides of unlike length are squeezed."""
    return np.asarray(grey(image).resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
