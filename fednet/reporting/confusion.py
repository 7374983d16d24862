"""Scores of a model from nothing but its confusion matrix: what a site that shares counts has told. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Confusion = Sequence[Sequence[int]]
"""Counts of scans; rows: true class, columns: predicted class."""

FEWEST_TOLD = 5
"""Scans of a class below which its row stays at the hospital: of so few, counts can tell who they are."""


def squared(counts: Sequence[int], *, classes: int) -> list[list[int]]:
    """Return the matrix of these counts  # classes * classes, row by row."""
    return [list(counts[start : start + classes]) for start in range(0, classes * classes, classes)]


def without_small_rows(confusion: Confusion) -> tuple[list[list[int]], list[int]]:
    """Return (the matrix with zeros for classes of fewer than `FEWEST_TOLD` scans, these classes with any scan)."""
    small = [label for label, row in enumerate(confusion) if 0 < sum(row) < FEWEST_TOLD]
    return [[0] * len(row) if label in small else list(row) for label, row in enumerate(confusion)], small


def images_in(confusion: Confusion) -> int:
    """Return how many scans were judged."""
    return sum(map(sum, confusion))


def accuracy(confusion: Confusion) -> float:
    """Return the share of right answers; at least one scan."""
    return sum(row[label] for label, row in enumerate(confusion)) / images_in(confusion)


def macro_f1(confusion: Confusion) -> float:
    """Return the mean F1 of the classes that there are scans of; at least one scan."""
    found = []
    for label, row in enumerate(confusion):
        if sum(row):
            answered = sum(other[label] for other in confusion)
            found.append(2 * row[label] / (sum(row) + answered))
    return sum(found) / len(found)


def recalls(confusion: Confusion) -> list[float | None]:
    """Return each class's share of right answers; None where there is no scan of it."""
    return [row[label] / sum(row) if sum(row) else None for label, row in enumerate(confusion)]
