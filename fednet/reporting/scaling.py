"""Classical scaling: points in the plane whose distances are as near as they can be to those that were measured.

Source: Torgerson, "Multidimensional Scaling: I. Theory and Method", Psychometrika 1952. With J = I - 11'/n the matrix
B = -J D2 J / 2 holds the points' inner products about their centre; its two largest eigenvalues give the coordinates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh


def classical_scaling(squared_distances: npt.ArrayLike) -> list[list[float]]:
    """Return n points [x, y] about their centre; squared_distances  # (n, n), symmetric.

    Each axis points to where its farthest point lies, so that the same matrix is drawn the same way.
    """
    squared = np.asarray(squared_distances, dtype=np.float64)
    if len(squared) < 2:
        return [[0.0, 0.0]] * len(squared)
    centred = squared - squared.mean(axis=0)
    products = -0.5 * (centred - centred.mean(axis=1, keepdims=True))
    last = len(squared) - 1
    values, vectors = eigh((products + products.T) / 2, subset_by_index=(last - 1, last))  # in ascending order
    points = vectors[:, ::-1] * np.sqrt(np.clip(values[::-1], 0.0, None))
    farthest = points[np.abs(points).argmax(axis=0), (0, 1)]
    found: list[list[float]] = (points * np.where(farthest < 0, -1.0, 1.0)).tolist()
    return found
