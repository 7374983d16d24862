"""Finds images that are the same: to the byte (SHA-256), or nearly (correlation of small grey thumbnails)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data.images import Pixels

THUMBNAIL = 32  # pixels, square
NEAR = 0.995  # correlation above which two thumbnails are taken for the same image
_BLOCK_ROWS = 2048


@dataclass(frozen=True)
class Groups:
    """Which images belong together, and how many pairs said so."""

    of: npt.NDArray[np.int64]  # (n,) group number of every image
    exact_pairs: int
    near_pairs: int  # beyond the exact ones


def group_twins(digests: Sequence[str], thumbnails: Sequence[Pixels]) -> Groups:
    """Return the groups of `n` images, transitively: a twin's twin is on the same side too.

    `digests`: SHA-256 of the files; `thumbnails`: grey uint8  # each (THUMBNAIL, THUMBNAIL).
    """
    exact = _exact_pairs(digests)
    near = _near_pairs(np.stack(thumbnails)) - exact if len(thumbnails) else set()
    pairs = sorted(exact | near)
    count = len(digests)
    left = [pair[0] for pair in pairs]
    right = [pair[1] for pair in pairs]
    links = coo_array((np.ones(len(pairs)), (left, right)), shape=(count, count))
    _, labels = connected_components(links, directed=False)
    return Groups(labels.astype(np.int64), len(exact), len(near))


def _exact_pairs(digests: Sequence[str]) -> set[tuple[int, int]]:
    by_digest: dict[str, list[int]] = {}
    for index, digest in enumerate(digests):
        by_digest.setdefault(digest, []).append(index)
    return {(a, b) for same in by_digest.values() for i, a in enumerate(same) for b in same[i + 1 :]}


def _near_pairs(thumbnails: npt.NDArray[np.uint8]) -> set[tuple[int, int]]:
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(norms > 0, norms, 1)  # an image of one colour correlates with nothing
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(flat), _BLOCK_ROWS):
        correlations = flat[start : start + _BLOCK_ROWS] @ flat.T
        rows, columns = np.nonzero(correlations > NEAR)
        pairs |= {(int(r) + start, int(c)) for r, c in zip(rows, columns, strict=True) if r + start < c}
    return pairs
