import json
import math

import numpy as np
import pytest
import torch

from fednet.errors import BadInput, ModelError
from fednet.reporting.calibration import (
    FEWEST_ANSWERED,
    answered_at,
    brier_score,
    calibrate,
    calibrated,
    error_by_chance,
    expected_calibration_error,
    fit_max_energy,
    fit_temperature,
    fit_threshold,
    reliability,
)
from models.prediction import Rules, rules_of
from tests.reporting.outputs import honest_logits


def of_confidence(*confidences: float) -> torch.Tensor:
    """Probabilities of two classes, the first at these confidences."""
    first = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=1)


@pytest.mark.parametrize("truth", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found_again(truth: float) -> None:
    logits, labels = honest_logits(20_000)
    assert fit_temperature(truth * logits, labels) == pytest.approx(truth, rel=0.05)


def test_the_temperature_is_where_the_cross_entropy_is_least() -> None:
    logits, labels = honest_logits(5_000, seed=3)
    own = 3 * logits
    found = fit_temperature(own, labels)

    def loss(temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(own / temperature, labels))

    assert loss(found) < loss(found * 1.1)
    assert loss(found) < loss(found / 1.1)
    assert calibrated(own, found).argmax(dim=1).equal(own.argmax(dim=1))


def test_a_validation_set_without_an_error_does_not_make_certain() -> None:
    labels = torch.arange(96) % 4
    logits = 4 * torch.eye(4)[labels] + torch.randn(96, 4, generator=torch.Generator().manual_seed(0)) * 0.3
    confidence = calibrated(logits, fit_temperature(logits, labels)).amax(dim=1).mean()
    assert float(confidence) == pytest.approx(97 / 98, abs=0.01)  # the rule of succession: 96 of 96 were right


def test_a_well_calibrated_model_has_hardly_an_error_and_an_overconfident_one_has() -> None:
    logits, labels = honest_logits(50_000)
    assert expected_calibration_error(logits.softmax(dim=1), labels) < 0.01
    before = expected_calibration_error((3 * logits).softmax(dim=1), labels)
    after = expected_calibration_error(calibrated(3 * logits, fit_temperature(3 * logits, labels)), labels)
    assert before > 0.1
    assert after < 0.01


def test_the_calibration_error_by_hand() -> None:
    probabilities, labels = of_confidence(0.95, 0.97, 0.96, 0.55), torch.tensor([0, 0, 1, 0])
    found = reliability(probabilities, labels)
    assert found.images == (1, 3)
    assert found.lower == pytest.approx([8 / 15, 14 / 15])
    assert found.confidence == pytest.approx([0.55, 0.96])
    assert found.accuracy == pytest.approx([1.0, 2 / 3])
    expected = (1 * abs(0.55 - 1) + 3 * abs(0.96 - 2 / 3)) / 4
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)


def test_a_well_calibrated_model_is_below_what_chance_shows_in_nineteen_of_twenty_sets() -> None:
    logits, labels = honest_logits(6_000)
    sets = [(logits[i : i + 100].softmax(dim=1), labels[i : i + 100]) for i in range(0, 6_000, 100)]
    below = [expected_calibration_error(*each) <= error_by_chance(each[0], draws=200) for each in sets]
    assert 0.85 <= np.mean(below) <= 1.0
    assert expected_calibration_error((4 * logits).softmax(dim=1), labels) > error_by_chance(
        (4 * logits).softmax(dim=1)
    )


def test_bins_hold_their_upper_edge() -> None:
    found = reliability(of_confidence(0.5, 1.0), torch.tensor([0, 0]), bins=2)
    assert found.images == (1, 1)


def test_the_brier_score_by_hand() -> None:
    assert brier_score(of_confidence(0.8), torch.tensor([0])) == pytest.approx(0.2**2 + 0.2**2)
    assert brier_score(of_confidence(0.8), torch.tensor([1])) == pytest.approx(0.8**2 + 0.8**2)
    assert brier_score(of_confidence(1.0), torch.tensor([1])) == 2.0


def test_the_threshold_answers_as_much_as_the_target_allows() -> None:
    confidences = np.linspace(0.99, 0.60, 40)
    labels = torch.tensor([0] * 30 + [1] * 10)  # the ten least confident answers are wrong
    probabilities = of_confidence(*confidences)
    threshold = fit_threshold(probabilities, labels, target=0.95)
    assert threshold == pytest.approx(confidences[30])  # 30 of 31 are right, 30 of 32 would be 0.9375
    found = answered_at(probabilities, labels, threshold=threshold)
    assert [found.images, found.coverage, found.accuracy] == pytest.approx([31, 31 / 40, 30 / 31])


def test_where_everything_is_right_enough_everything_is_answered() -> None:
    assert fit_threshold(of_confidence(*[0.6] * 30), torch.zeros(30, dtype=torch.int64)) == 0.0


def test_where_no_confidence_is_enough_only_certainty_is() -> None:
    labels = torch.arange(60) % 2
    assert fit_threshold(of_confidence(*np.linspace(0.6, 0.99, 60)), labels) == 1.0


def test_a_few_lucky_answers_reach_no_target() -> None:
    right = FEWEST_ANSWERED // 2
    labels = torch.tensor([0] * right + [1] * 60)
    assert fit_threshold(of_confidence(*np.linspace(0.99, 0.6, right + 60)), labels) == 1.0


def test_answers_of_one_confidence_stand_or_fall_together() -> None:
    probabilities, labels = of_confidence(*[0.9] * 25, *[0.7] * 25), torch.tensor([0] * 25 + [0] * 20 + [1] * 5)
    assert fit_threshold(probabilities, labels, target=0.95) == pytest.approx(0.9)


def test_nothing_answered_has_no_accuracy() -> None:
    found = answered_at(of_confidence(0.9), torch.tensor([0]), threshold=0.95)
    assert (found.images, found.coverage, found.accuracy) == (0, 0.0, None)


def test_the_energy_limit_lies_above_nearly_all_of_validation() -> None:
    logits, _ = honest_logits(1_000)
    energies = -logits.logsumexp(dim=1)
    limit = fit_max_energy(logits)
    assert 0.99 <= float((energies <= limit).double().mean()) < 1.0
    assert limit > float(energies.quantile(0.99))
    assert limit == pytest.approx(float(1.25 * energies.quantile(0.99) - 0.25 * energies.median()), abs=0.01)


def test_calibration_is_what_predict_reads() -> None:
    logits, labels = honest_logits(500)
    found = calibrate((2 * logits).float(), labels)
    document = found.to_dict()
    assert json.loads(json.dumps(document)) == document
    assert found.images == 500
    rules = rules_of(document)
    assert rules == Rules(temperature=found.temperature, threshold=found.threshold, max_energy=found.max_energy)
    assert found.temperature == pytest.approx(2, rel=0.2)
    assert found.max_energy == fit_max_energy(2 * logits.float())


def test_outputs_that_are_not_finite_are_not_calibrated() -> None:
    logits, labels = honest_logits(10)
    logits[3, 1] = math.nan
    with pytest.raises(ModelError, match="not finite"):
        calibrate(logits, labels)
    with pytest.raises(BadInput, match="no image"):
        calibrate(logits[:0], labels[:0])
