import json
import time

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from fednet.errors import BadInput
from fednet.reporting.calibration import brier_score, expected_calibration_error
from fednet.reporting.intervals import (
    Interval,
    Intervals,
    Outputs,
    difference,
    disagreement,
    intervals,
    wilson,
)
from fednet.reporting.metrics import metrics_of
from tests.reporting.outputs import CLASSES, honest_logits, outputs_of


def found_of(outputs: Outputs, *, resamples: int = 200, negative: int | None = 2) -> Intervals:
    return intervals(outputs, CLASSES, negative=negative, specificity=0.9, resamples=resamples)


def answering(answers: list[int], labels: list[int]) -> Outputs:
    """A model that gives these answers."""
    return outputs_of(5 * torch.eye(4, dtype=torch.float64)[answers], torch.tensor(labels))


def test_figures_are_those_of_the_metrics_and_lie_within_their_intervals() -> None:
    outputs = outputs_of(*honest_logits(300), temperature=1.5)
    found, metrics = found_of(outputs), metrics_of(outputs.probabilities, outputs.labels, classes=CLASSES)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc"):
        assert getattr(found, name).value == pytest.approx(getattr(metrics, name))
    for name, each in metrics.per_class.items():
        for figure in ("recall", "precision", "f1", "auc"):
            interval = getattr(found.per_class[name], figure)
            assert interval.value == pytest.approx(getattr(each, figure))
            assert 0 <= interval.low < interval.value < interval.high <= 1
    assert found.ece.value == pytest.approx(expected_calibration_error(outputs.calibrated, outputs.labels))
    assert found.brier.value == pytest.approx(brier_score(outputs.calibrated, outputs.labels))
    assert found.ece.low <= found.ece.value <= found.ece.high
    assert found.sensitivity is not None
    assert found.sensitivity.low < found.sensitivity.value < found.sensitivity.high


def test_the_same_outputs_have_the_same_intervals_as_plain_json() -> None:
    outputs = outputs_of(*honest_logits(100))
    document = found_of(outputs).to_dict()
    assert document == found_of(outputs).to_dict()
    assert json.loads(json.dumps(document)) == document


def test_wilsons_interval_by_hand() -> None:
    found = wilson(9, 10)  # centre (p + z2/2n) / (1 + z2/n), half width z sqrt(pq/n + z2/4n2) / (1 + z2/n), z = 1.96
    assert found is not None
    assert found.low == pytest.approx(0.5958, abs=1e-4)
    assert found.high == pytest.approx(0.9821, abs=1e-4)
    assert wilson(0, 0) is None


def test_what_was_never_wrong_is_not_certain() -> None:
    recall = found_of(answering([0, 1, 2, 3] * 5, [0, 1, 2, 3] * 5)).per_class["glioma"].recall
    assert recall is not None
    assert recall.high == 1.0
    assert recall.low < 0.6


def test_a_class_that_is_missing_has_no_intervals() -> None:
    found = found_of(answering([0, 1, 1, 0], [0, 1, 0, 1]), negative=None)
    nothing = found.per_class["pituitary"]
    assert (nothing.recall, nothing.precision, nothing.f1, nothing.auc) == (None, None, None, None)
    assert found.sensitivity is None
    assert found_of(answering([2, 2], [2, 2])).macro_auc is None


def test_intervals_cover_what_is_true_about_as_often_as_they_say() -> None:
    logits, labels = honest_logits(20_000, seed=5)
    too_sure = 2.5 * logits
    everybody = metrics_of(too_sure.softmax(dim=1), labels, classes=CLASSES)
    truth = {name: getattr(everybody, name) for name in ("accuracy", "macro_f1", "macro_auc")}
    truth |= {"ece": expected_calibration_error(too_sure.softmax(dim=1), labels)}
    truth |= {"brier": brier_score(too_sure.softmax(dim=1), labels)}
    covered: dict[str, list[bool]] = {name: [] for name in truth}
    for start in range(0, len(labels), 200):
        found = found_of(outputs_of(too_sure[start : start + 200], labels[start : start + 200]))
        for name, value in truth.items():
            interval: Interval = getattr(found, name)
            covered[name].append(interval.low <= value <= interval.high)
    shares = {name: float(np.mean(each)) for name, each in covered.items()}
    assert all(each >= 0.88 for each in shares.values()), shares  # of 100 sets, three standard errors are 0.065


def test_a_difference_is_more_certain_than_the_two_figures() -> None:
    logits, labels = honest_logits(400)
    noise = 0.3 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first, second = outputs_of(logits + noise, labels), outputs_of(logits, labels)
    found, alone = difference(first, second, resamples=500).accuracy, found_of(second).accuracy
    assert found.value == pytest.approx(alone.value - found_of(first).accuracy.value)
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.7 * (alone.high - alone.low)


def test_a_model_does_not_differ_from_itself() -> None:
    outputs = outputs_of(*honest_logits(100))
    found = difference(outputs, outputs, resamples=100)
    assert (found.macro_f1.low, found.macro_f1.value, found.macro_f1.high) == (0, 0, 0)
    assert disagreement(outputs, outputs).p_value == 1.0


def test_mcnemars_test_counts_what_only_one_is_right_about() -> None:
    labels = [0] * 12
    first, second = answering([0] * 2 + [1] * 10, labels), answering([1] + [0] * 10 + [1], labels)
    found = disagreement(first, second)
    assert (found.only_first, found.only_second) == (1, 9)
    assert found.p_value == pytest.approx(2 * (1 + 10) / 2**10)
    assert found.p_value == pytest.approx(binomtest(1, 10).pvalue)


def test_models_asked_about_other_images_are_not_compared() -> None:
    with pytest.raises(BadInput, match="not the same"):
        disagreement(answering([0], [0]), answering([0], [1]))
    with pytest.raises(BadInput, match="1 and 2 images"):
        difference(answering([0], [0]), answering([0, 0], [0, 0]))


def test_two_thousand_resamples_of_six_hundred_images_take_seconds() -> None:
    outputs = outputs_of(*honest_logits(600))
    began = time.process_time()
    found_of(outputs, resamples=2000)
    assert time.process_time() - began < 10  # 0.9 s on one core
