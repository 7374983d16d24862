import json
import math

import pytest
import torch

from fednet.reporting.metrics import evaluate, loss_gradient, loss_of, metrics_of
from tests.worker.fakes import TinyData, tiny_net

CLASSES = ("a", "b", "c")


def sure(*answers: int) -> torch.Tensor:
    """Probabilities of a model that is quite sure of these answers."""
    return torch.full((len(answers), 3), 0.1, dtype=torch.float64).scatter_(1, torch.tensor(answers).view(-1, 1), 0.8)


def test_figures_computed_by_hand() -> None:
    found = metrics_of(sure(0, 0, 1, 1, 2, 0), torch.tensor([0, 0, 1, 0, 2, 2]), classes=CLASSES)
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.confusion == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert found.per_class["a"].recall == pytest.approx(2 / 3)
    assert found.per_class["a"].precision == pytest.approx(2 / 3)
    assert found.per_class["b"].f1 == pytest.approx(2 / 3)
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert found.loss == pytest.approx(-(4 * math.log(0.8) + 2 * math.log(0.1)) / 6)
    assert [found.per_class[name].support for name in CLASSES] == [3, 1, 2]


def test_a_class_that_the_data_has_none_of_is_no_crash() -> None:
    found = metrics_of(sure(0, 1), torch.tensor([0, 1]), classes=CLASSES)
    assert found.accuracy == 1.0
    assert found.macro_f1 == 1.0
    assert found.per_class["c"].auc is None
    assert found.per_class["c"].support == 0


def test_a_single_class_has_no_auc() -> None:
    assert metrics_of(sure(0, 0), torch.tensor([0, 0]), classes=CLASSES).macro_auc is None


def test_a_model_that_answers_nan_is_judged_and_not_a_crash() -> None:
    found = metrics_of(torch.full((3, 3), math.nan), torch.tensor([0, 1, 2]), classes=CLASSES)
    assert found.accuracy == pytest.approx(1 / 3)
    assert math.isfinite(found.loss)


def test_evaluation_leaves_the_model_in_its_mode_and_its_statistics_alone() -> None:
    model = tiny_net().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate(model, TinyData(10), classes=("dark", "bright"), batch_size=4)
    assert found.images == 10
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_document_is_plain_json() -> None:
    document = metrics_of(sure(0, 1, 2), torch.tensor([0, 1, 2]), classes=CLASSES).to_dict()
    assert json.loads(json.dumps(document)) == document


def test_the_loss_falls_along_its_gradient_as_fast_as_it_says() -> None:
    model, data = tiny_net().train(), TinyData(30)
    gradient = loss_gradient(model, data, batch_size=7)
    before, step = loss_of(model, data), 1e-2
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.sub_(step * gradient[name])
    fall = sum(float(each.square().sum()) for each in gradient.values())
    assert (before - loss_of(model, data)) / step == pytest.approx(fall, rel=0.05)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
