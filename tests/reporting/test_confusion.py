import pytest
import torch

from fednet.reporting.confusion import (
    accuracy,
    images_in,
    macro_f1,
    recalls,
    squared,
    without_small_rows,
)
from fednet.reporting.metrics import metrics_of

CONFUSION = [[8, 1, 1], [0, 0, 0], [3, 0, 7]]


def test_scores_are_those_of_scikit_learn() -> None:
    truth = [label for label, row in enumerate(CONFUSION) for count in row for _ in range(count)]
    answers = [answer for row in CONFUSION for answer, count in enumerate(row) for _ in range(count)]
    metrics = metrics_of(torch.eye(3, dtype=torch.float64)[answers], torch.tensor(truth), classes=("a", "b", "c"))
    assert metrics.confusion == CONFUSION
    assert accuracy(CONFUSION) == pytest.approx(metrics.accuracy)
    assert macro_f1(CONFUSION) == pytest.approx(metrics.macro_f1)
    assert images_in(CONFUSION) == metrics.images


def test_a_class_without_scans_has_no_recall() -> None:
    assert recalls(CONFUSION) == [0.8, None, 0.7]


def test_rows_of_few_scans_become_zeros_and_are_named() -> None:
    told, small = without_small_rows([[4, 1, 0], [2, 1, 1], [0, 0, 0]])
    assert told == [[4, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert small == [1]


def test_counts_travel_row_by_row() -> None:
    assert squared([1, 2, 3, 4], classes=2) == [[1, 2], [3, 4]]
