"""Finds images that are the same: to the byte (SHA-256), or nearly (correlation of small grey thumbnails)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data.greys import Pixels

THUMBNAIL = 32  # pixels, square
NEAR = 0.995  # correlation above which two thumbnails are taken for the same image
_BLOCK_ROWS = 512  # rows of the correlation matrix that are in memory at once

_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Which images belong together, and how many pairs said so."""

    of: _Indices  # (n,) group number of every image
    exact_pairs: int
    near_pairs: int  # beyond the exact ones


def group_twins(digests: Sequence[str], thumbnails: Sequence[Pixels]) -> Groups:
    """Return the groups of `n` images, one or more, transitively: a twin's twin is on the same side too.

    `digests`: SHA-256 of the files; `thumbnails`: grey uint8  # each (THUMBNAIL, THUMBNAIL). Transitive groups could
    chain unlike images together, which would cost training images but never leak one; at this threshold they do not:
    in the public set any two images of a group (the largest has 10) correlate above `NEAR` themselves.
    """
    _, first, codes, counts = np.unique(digests, return_index=True, return_inverse=True, return_counts=True)
    rows, columns = _near_pairs(np.stack(thumbnails))
    count = len(digests)
    links = (np.concatenate([first[codes], rows]), np.concatenate([np.arange(count), columns]))
    _, labels = connected_components(coo_array((np.ones(len(links[0])), links), shape=(count, count)), directed=False)
    return Groups(
        labels.astype(np.int64),
        exact_pairs=int((counts * (counts - 1) // 2).sum()),
        near_pairs=int((codes[rows] != codes[columns]).sum()),
    )


def _near_pairs(thumbnails: Pixels) -> tuple[_Indices, _Indices]:
    """Return the pairs (i, j), i < j, that correlate above `NEAR`.

    Every sum is a whole number below 2^53, so float64 holds it exactly: pairs do not depend on the order in which a
    machine adds, and an image of one colour (no spread) correlates with nothing.
    """
    pixels = thumbnails.reshape(len(thumbnails), -1).astype(np.float64)  # (n, p)
    size = pixels.shape[1]
    sums = pixels.sum(axis=1)
    spreads = size * (pixels**2).sum(axis=1) - sums**2  # p^2 times the variance
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for start in range(0, len(pixels), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        products = size * (pixels[block] @ pixels[start:].T) - np.outer(sums[block], sums[start:])
        bounds = NEAR * np.sqrt(np.outer(spreads[block], spreads[start:]))
        pairs.append(np.argwhere(np.triu(products > bounds, k=1)).T + start)
    rows, columns = np.concatenate(pairs, axis=1)
    return rows, columns
