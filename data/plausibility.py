"""Whether a picture can be a grey MRI slice of a head at all: plain looks at its pixels, which no model is asked for.

Limits were set on the public data set (3,264 slices): 0.3 % of it is warned of, for bright borders. They tell a
photograph, a document or an X-ray of a chest from a head slice; not a head slice of another contrast, scanner or
illness from those that a model has learned.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.greys import grey

MAX_COLOURFULNESS = 8.0  # grey is 0; Hasler and Süsstrunk call 15 slightly colourful
MAX_ASPECT = 2.0  # long side to short side
MAX_BORDER = 0.3  # median grey of the border, as a share of the picture's brightest: around a head is air
MIN_SPREAD = 30.0  # grey levels from the darkest to the brightest
_THUMBNAIL = 128  # pixels of the long side that the looks are at
_BORDER = 16  # one in this many of the short side

_Levels = npt.NDArray[np.float64]


def doubts(image: Image.Image) -> list[str]:
    """Return why this is hardly a grey slice of a head, a phrase each; none where nothing speaks against it."""
    found = []
    if max(image.size) > MAX_ASPECT * min(image.size):
        found.append(f"its sides are {image.width} to {image.height}")
    small = _thumbnail(image)
    if colourfulness(small) > MAX_COLOURFULNESS:
        found.append("it is in colour")
    levels = small.mean(axis=2)
    dark, bright = np.percentile(levels, (1, 99))
    if bright - dark < MIN_SPREAD:
        found.append("it has hardly any contrast")
    elif np.median(_border(levels)) > MAX_BORDER * bright:
        found.append("its border is bright, where air around a head is dark")
    return found


def colourfulness(pixels: _Levels) -> float:
    """Return how colourful pixels are  # (h, w, 3), 0 for grey.

    Source: Hasler and Süsstrunk, "Measuring colourfulness in natural images", SPIE 5007, 2003.
    """
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))


def _thumbnail(image: Image.Image) -> _Levels:
    small = grey(image) if image.mode.startswith(("I", "F")) else image
    small = small.convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return np.asarray(small, dtype=np.float64)


def _border(levels: _Levels) -> _Levels:
    width = max(1, min(levels.shape) // _BORDER)
    is_border = np.ones(levels.shape, dtype=bool)
    is_border[width:-width, width:-width] = False
    return levels[is_border]
