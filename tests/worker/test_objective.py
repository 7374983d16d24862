import pytest
import torch
from torch import nn
from torch.nn import functional

from fednet.config import TrainingSettings
from fednet.errors import BadInput
from fednet.worker.compute import Compute
from fednet.worker.objective import (
    Objective,
    class_weights,
    log_shares,
    parameter_groups,
    partly_frozen,
    require_trainable,
)
from fednet.worker.training import train
from tests.worker.fakes import TinyData, TinyNet, tiny_net

CPU = torch.device("cpu")


def objective(
    settings: TrainingSettings, counts: tuple[int, ...] = (6, 2), model: nn.Module | None = None
) -> Objective:
    return Objective(model or tiny_net(), settings, torch.tensor(counts), device=CPU)


def test_the_plain_loss_is_the_mean_cross_entropy() -> None:
    logits, labels = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 0])
    plain = objective(TrainingSettings())
    assert torch.allclose(
        plain.loss(logits, labels) / plain.weight_of(labels), functional.cross_entropy(logits, labels)
    )


def test_weights_and_smoothing_are_torchs_own() -> None:
    logits, labels = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 0])
    settings = TrainingSettings(balance="loss", label_smoothing=0.1)
    own = objective(settings)
    expected = functional.cross_entropy(
        logits, labels, weight=torch.tensor([4 / 6, 2.0]), label_smoothing=0.1, reduction="mean"
    )
    assert torch.allclose(own.loss(logits, labels) / own.weight_of(labels), expected)


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        ((10, 10), (1.0, 1.0)),
        ((30, 10), (20 / 30, 2.0)),
        ((30, 0, 10), (20 / 30, 1.0, 2.0)),  # a class that the site has none of
        ((999, 1), (500 / 999, 10.0)),  # and one of which it has next to none
    ],
)
def test_every_class_counts_alike(counts: tuple[int, ...], weights: tuple[float, ...]) -> None:
    assert torch.allclose(class_weights(torch.tensor(counts)), torch.tensor(weights))


def test_shifted_logits_leave_the_shares_of_the_classes_to_the_shift() -> None:
    """A model that knows nothing but how many scans there are of each class has nothing more to learn."""
    counts = (30, 10)
    labels = torch.tensor([0] * 30 + [1] * 10)
    logits = torch.zeros(40, 2, requires_grad=True)
    shifted = objective(TrainingSettings(balance="logits"), counts)
    (gradient,) = torch.autograd.grad(shifted.loss(logits, labels) / shifted.weight_of(labels), logits)
    assert torch.allclose(gradient.sum(dim=0), torch.zeros(2), atol=1e-6)
    assert torch.allclose(log_shares(torch.tensor(counts)).exp(), torch.tensor([0.75, 0.25]))


def test_a_class_that_a_site_lacks_is_hardly_pushed_down() -> None:
    logits, labels = torch.zeros(2, 2), torch.tensor([0, 0])
    pushes = []
    for balance in ("none", "logits"):
        shown = logits.clone().requires_grad_()
        own = objective(TrainingSettings(balance=balance, label_smoothing=0.1), (100, 0))
        (gradient,) = torch.autograd.grad(own.loss(shown, labels), shown)
        assert gradient.isfinite().all()
        pushes.append(float(gradient[:, 1].sum()))
    assert pushes[0] > 0.5 > 0 > pushes[1] > -0.2


def moved(mu: float) -> float:
    """Return how far a training with this pull goes."""
    model, start = tiny_net(), tiny_net()
    settings = TrainingSettings(local_epochs=20, batch_size=8, learning_rate=0.05, proximal_mu=mu, weight_decay=0.0)
    train(model, TinyData(), settings, seed=1, compute=Compute(CPU))
    pairs = zip(model.parameters(), start.parameters(), strict=True)
    return float(sum(((own - before) ** 2).sum().item() for own, before in pairs))


def test_fedprox_stays_near_the_global_model() -> None:
    assert moved(5.0) < 0.5 * moved(0.0)


def test_the_pull_is_the_gradient_of_the_proximal_term() -> None:
    model = tiny_net()
    pulled = objective(TrainingSettings(proximal_mu=0.3), model=model)
    with torch.no_grad():
        model.fc.weight.add_(2.0)
    model.fc.weight.grad = torch.zeros_like(model.fc.weight)
    pulled.pull()
    assert torch.allclose(model.fc.weight.grad, torch.full_like(model.fc.weight, 0.6))


def test_frozen_layers_keep_their_weights_and_statistics() -> None:
    model, before = tiny_net(), tiny_net()
    settings = TrainingSettings(local_epochs=2, batch_size=8, learning_rate=0.05, freeze_until="features")
    train(model, TinyData(), settings, seed=1, compute=Compute(CPU))
    own, was = model.state_dict(), before.state_dict()
    assert {name for name in own if not torch.equal(own[name], was[name])} == {"fc.weight", "fc.bias"}
    assert all(each.requires_grad for each in model.parameters())


def test_a_layer_within_a_block_can_be_the_last_frozen_one() -> None:
    model = tiny_net()
    with partly_frozen(model, "features.0"):
        assert [name for name, each in model.named_parameters() if not each.requires_grad] == [
            "features.0.weight",
            "features.0.bias",
        ]
        assert model.features[1].training


@pytest.mark.parametrize(
    ("until", "complaint"), [("layer7", "no layer"), ("fc", "nothing to train"), ("feat", "no la")]
)
def test_a_layer_that_is_not_there_is_refused(until: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        require_trainable(tiny_net(), TrainingSettings(freeze_until=until))


def test_all_layers_are_one_group_where_they_learn_alike() -> None:
    (group,) = parameter_groups(tiny_net(), TrainingSettings(learning_rate=0.1))
    assert (group["lr"], len(group["params"])) == (0.1, 6)


def test_layers_near_the_input_learn_slower() -> None:
    model: TinyNet = tiny_net()
    groups = parameter_groups(model, TrainingSettings(learning_rate=0.1, layer_lr_decay=0.5))
    assert [group["lr"] for group in groups] == [0.05, 0.1]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
