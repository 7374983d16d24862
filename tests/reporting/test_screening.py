import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fednet.reporting.screening import Screen, screen_of


def screen(scores: list[float], findings: list[int]) -> Screen:
    return Screen(scores=np.array(scores), has_finding=np.array(findings, dtype=np.bool_))


def test_the_score_is_what_is_left_of_the_class_without_finding() -> None:
    probabilities = torch.tensor([[0.7, 0.3], [0.1, 0.9]], dtype=torch.float64)
    found = screen_of(probabilities, torch.tensor([0, 1]), negative=1)
    assert found.scores == pytest.approx([0.7, 0.1])
    assert found.has_finding.tolist() == [True, False]


def test_the_threshold_keeps_the_specificity_and_calls_most() -> None:
    scores = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
    found = screen(scores, [1, 1, 0, 1, 0, 1, 0, 0, 0, 0])
    threshold = found.threshold(specificity=5 / 6)
    assert threshold == pytest.approx(0.6)
    point = found.at(0.6)
    assert point.sensitivity is not None
    assert point.specificity is not None
    assert (point.sensitivity.value, point.specificity.value) == (3 / 4, 5 / 6)
    assert point.sensitivity.low < 3 / 4 < point.sensitivity.high
    assert found.auc == pytest.approx(roc_auc_score(found.has_finding, found.scores))


def test_a_specificity_met_exactly_is_met() -> None:
    scores = np.linspace(0, 1, 20)
    found = screen([*scores, 0.93], [0] * 20 + [1])
    threshold = found.threshold(specificity=0.9)  # 18 of 20
    assert threshold is not None
    assert threshold == pytest.approx(0.93)


def test_where_the_highest_score_is_clear_nothing_is_called() -> None:
    found = screen([0.9, 0.8], [0, 1])
    threshold = found.threshold(specificity=0.95)
    assert threshold is not None
    assert threshold > 0.9
    point = found.at(threshold)
    assert point.sensitivity is not None
    assert point.sensitivity.value == 0.0


def test_one_kind_alone_gives_no_threshold() -> None:
    found = screen([0.9, 0.8], [1, 1])
    assert found.auc is None
    assert found.threshold(specificity=0.95) is None
    assert found.at(0.85).specificity is None
