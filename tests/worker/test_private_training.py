from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from fednet.config import TrainingSettings
from fednet.errors import TrainingError
from fednet.reporting.metrics import evaluate
from fednet.worker import private_training, progress
from fednet.worker.compute import Compute
from fednet.worker.entropy import Entropy
from fednet.worker.objective import Objective
from fednet.worker.privacy_ledger import SiteMechanism
from fednet.worker.private_training import NoisyGradient, _single_gradients, _take, objection_to, train_privately
from fednet.worker.progress import TrainingProgress
from fednet.worker.training import TrainingResult, train
from models.registry import build
from tests.worker.fakes import TinyData, tiny_net
from tests.worker.private_sites import CPU, TRAINING, group_net, weights

QUIET = 1e-9  # noise, in clips: too little to be seen


def mechanism(noise: float = QUIET, rate: float = 1.0, steps: int = 1) -> SiteMechanism:
    return SiteMechanism(noise_multiplier=noise, sample_rate=rate, steps=steps)


def trained(
    model: nn.Module, data: TinyData, which: SiteMechanism, clip: float = 1.0, **options: Any
) -> TrainingResult:
    compute = Compute(CPU, most_at_once=options.pop("most_at_once", None))
    settings = options.pop("settings", TRAINING)
    return train_privately(model, data, settings, mechanism=which, clip=clip, compute=compute, **options)


def single_gradients(model: nn.Module, data: TinyData) -> torch.Tensor:
    """Return each sample's gradient, one after the other  # (samples, n)."""
    found = []
    for place in range(data.samples):
        images, labels = data.picked(torch.tensor([place]), augmentation_seed=None)
        gradients = torch.autograd.grad(functional.cross_entropy(model(images), labels), list(model.parameters()))
        found.append(torch.cat([each.flatten() for each in gradients]))
    return torch.stack(found)


@pytest.mark.parametrize("at_once", [None, 5])
@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_a_step_is_the_mean_of_gradients_each_clipped_to_the_norm(clip: float, at_once: int | None) -> None:
    model, data = group_net(), TinyData(12)
    gradients = single_gradients(model, data)
    before = weights(model)
    plain = TrainingSettings(batch_size=12, learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    trained(model, data, mechanism(), clip, settings=plain, most_at_once=at_once)
    clipped = gradients * (clip / gradients.norm(dim=1, keepdim=True)).clamp(max=1.0)
    noise = 1e-6 * clip / 12
    assert torch.allclose(before - weights(model), clipped.mean(dim=0), atol=1e-6 + noise, rtol=1e-4)


def test_what_one_sample_adds_is_bounded_however_odd_it_is() -> None:
    model, data, clip = group_net(), TinyData(12), 0.1
    with torch.no_grad():
        data._images[3] *= 1e4
        data._images[4, 0, 0, 0] = float("inf")  # nothing finite comes of it
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    objective = Objective(model, TRAINING, data.class_counts, device=CPU)
    with _single_gradients(model) as network:
        sums = []
        for places in (torch.arange(12), torch.tensor([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11])):
            gradient = NoisyGradient(optimiser, clip=clip, noise_multiplier=QUIET, expected=1.0, entropy=Entropy())
            _take(gradient, network, objective, *data.picked(places, augmentation_seed=None))
            gradient.finish()
            sums.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
    assert float((sums[0] - sums[1]).norm()) <= clip * 1.001
    assert sums[0].isfinite().all()


def test_the_noise_has_the_deviation_that_is_accounted() -> None:
    noise, clip, expected = 3.0, 0.5, 6.0
    model = nn.Linear(400, 250)
    gradient = NoisyGradient(
        torch.optim.SGD(model.parameters(), lr=1.0),
        clip=clip,
        noise_multiplier=noise,
        expected=expected,
        entropy=Entropy(),
    )
    gradient.finish()  # of no scan at all
    assert model.weight.grad is not None
    assert float(model.weight.grad.std()) == pytest.approx(noise * clip / expected, rel=0.02)


def test_the_same_training_never_comes_to_the_same() -> None:
    models = [group_net(), group_net()]
    for model in models:
        torch.manual_seed(3)
        trained(model, TinyData(), mechanism(noise=1.0))
    difference = weights(models[0]) - weights(models[1])
    assert float(difference.abs().min()) > 0


def test_it_learns() -> None:
    model, data = group_net(), TinyData(64)
    before = evaluate(model, data, classes=("dark", "bright")).loss
    result = trained(model, data, mechanism(noise=0.3, rate=0.25, steps=60))
    assert evaluate(model, data, classes=("dark", "bright")).loss < before / 1.5
    assert (result.samples, result.batches, result.mean_loss, result.stopped) == (64, 60, 0.0, False)


def test_steps_without_any_scan_are_noise_alone() -> None:
    model = group_net()
    before = weights(model)
    trained(model, TinyData(), mechanism(noise=1.0, rate=1e-9, steps=2))
    assert bool((weights(model) - before).all())


def test_frozen_layers_stay_and_fedprox_pulls() -> None:
    model = group_net()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    frozen = TrainingSettings(batch_size=8, freeze_until="features", proximal_mu=0.5, label_smoothing=0.1)
    trained(model, TinyData(), mechanism(noise=1.0, steps=3), settings=frozen)
    moved = {name for name, each in model.state_dict().items() if not torch.equal(each, before[name])}
    assert moved == {"fc.weight", "fc.bias"}
    assert all(each.requires_grad for each in model.parameters())


def test_the_model_is_as_before_and_trains_plainly_afterwards() -> None:
    model, fresh = group_net(), group_net()
    trained(model, TinyData(), mechanism())
    assert list(model.state_dict()) == list(fresh.state_dict())
    for module, other in zip(model.modules(), fresh.modules(), strict=True):
        assert module.__dict__.keys() == other.__dict__.keys()
        assert not module._forward_hooks and not module._backward_hooks
    assert not any(each.__dict__ for each in model.parameters())
    model.load_state_dict(fresh.state_dict())
    for each in (model, fresh):
        train(each, TinyData(), TRAINING, seed=1, compute=Compute(CPU))
    assert torch.equal(weights(model), weights(fresh))


def test_it_stops_between_steps() -> None:
    answers = iter([False, True])
    result = trained(group_net(), TinyData(), mechanism(steps=5), should_stop=lambda: next(answers))
    assert (result.stopped, result.batches) == (True, 1)


def test_progress_tells_neither_loss_nor_how_many_scans_were_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PROGRESS_EVERY_S", 0.0)
    counts: list[int] = []

    class Counting(progress.Meter):
        def count(self, loss: torch.Tensor, images: int) -> None:
            counts.append(images)
            super().count(loss, images)

    monkeypatch.setattr(private_training, "Meter", Counting)
    seen: list[TrainingProgress] = []
    trained(group_net(), TinyData(24), mechanism(rate=1 / 3, steps=20), on_progress=seen.append)
    assert {each.loss for each in seen} == {None}
    assert set(counts) == {8}
    assert seen[-1].fraction == 1.0


def test_weights_that_are_not_finite_are_said() -> None:
    wild = TrainingSettings(batch_size=8, learning_rate=10.0, weight_decay=1.0)
    with pytest.raises(TrainingError, match="lower --lr"):
        trained(group_net(), TinyData(), mechanism(noise=1e30, steps=60), settings=wild)


def test_where_memory_is_too_small_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(gradient: NoisyGradient) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(NoisyGradient, "take", full)
    with pytest.raises(TrainingError, match="smaller --images-at-once"):
        trained(group_net(), TinyData(), mechanism())


def test_what_cannot_be_private_is_named() -> None:
    assert objection_to(TRAINING, group_net(), name="tiny-gn") is None
    assert "BatchNorm mixes scans" in (objection_to(TRAINING, tiny_net(), name="tiny") or "")
    for balance in ("loss", "sampling"):
        asked = TrainingSettings(balance=balance)
        assert f"--balance {balance}" in (objection_to(asked, group_net(), name="tiny-gn") or "")


@pytest.mark.parametrize(("name", "is_fit"), [("resnet18", False), ("resnet18-gn", True), ("small-cnn", False)])
def test_which_architectures_can(name: str, is_fit: bool) -> None:
    assert (objection_to(TRAINING, build(name, classes=4), name=name) is None) == is_fit
