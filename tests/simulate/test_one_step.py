import pytest
import torch
from torch.nn import functional

from fednet.config import PrivacySettings, TrainingSettings
from fednet.simulate.inversion import gradient_in
from fednet.simulate.one_step import one_step
from tests.worker.fakes import TinyData
from tests.worker.private_sites import group_net, planned, weights

ONE_STEP = TrainingSettings(batch_size=24, momentum=0.0, weight_decay=0.0, augment=False)


def test_one_step_sends_the_gradient_of_all_scans() -> None:
    network, data = group_net(), TinyData(24)
    before = weights(network)
    sent = one_step(network, data, planned(training=ONE_STEP, rounds=1), privacy=None)
    assert torch.equal(weights(network), before), "the model stays the one that was sent out"
    assert sent.epsilon == 0.0
    found = gradient_in(sent.update, sent.manifest, learning_rate=ONE_STEP.learning_rate)
    loss = functional.cross_entropy(network(data._images), data._labels)
    expected = torch.autograd.grad(loss, list(network.parameters()))
    for (name, _), each in zip(network.named_parameters(), expected, strict=True):
        assert torch.allclose(found[name], each, atol=1e-5), name


def test_with_privacy_it_spends_the_budget_and_sends_noise() -> None:
    network, data = group_net(), TinyData(24)
    budget = PrivacySettings(epsilon=8.0, delta=1e-5)
    one, other = (one_step(network, data, planned(training=ONE_STEP, rounds=1), privacy=budget) for _ in range(2))
    assert one.epsilon == pytest.approx(8.0, abs=0.01)
    assert not torch.equal(one.update, other.update)
