import json

import pytest
import torch

from fednet.reporting.examination import Answers, examined
from models.prediction import rules_of

CLASSES = ("glioma", "meningioma", "no_tumor")


def answers(count: int, *, seed: int, sharpness: float = 6.0) -> Answers:
    """Return logits that are more certain than they are right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    logits = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    logits[range(count), labels] += 1.0
    return logits * sharpness, labels


def test_a_model_is_calibrated_by_validation_and_judged_on_test() -> None:
    validation, test = answers(300, seed=1), answers(200, seed=2)
    found = examined(validation, test, classes=CLASSES, negative=2)
    assert found.extra == examined(validation, answers(50, seed=3), classes=CLASSES, negative=2).extra
    rules = rules_of(found.extra)
    assert rules.temperature > 2
    before, after = found.calibration["test"]["before"], found.calibration["test"]["after"]
    assert after["ece"] < before["ece"] / 2
    assert after["loss"] < before["loss"] and after["brier"] < before["brier"]
    assert found.calibration["test"]["images"] == 200
    assert found.calibration["test"]["answered"]["threshold"] == rules.threshold
    assert (
        found.intervals["accuracy"]["low"] < found.intervals["accuracy"]["value"] < found.intervals["accuracy"]["high"]
    )
    assert found.intervals["per_class"].keys() == set(CLASSES)
    json.dumps([found.extra, found.calibration, found.intervals], allow_nan=False)


@pytest.mark.parametrize("part", [0, 1])
def test_a_model_whose_outputs_are_not_finite_is_not_calibrated(part: int) -> None:
    sets = [answers(60, seed=1), answers(60, seed=2)]
    sets[part][0][7, 1] = torch.nan
    found = examined(sets[0], sets[1], classes=CLASSES, negative=2)
    assert (found.extra, found.intervals) == ({}, {})
    assert found.calibration["fitted"] is None
    assert "not finite" in found.calibration["why"]
