import pytest
import torch
from torch import nn

from fednet.aggregation.batch_norm import Refitter, norm_tensors, reestimate, require_batch_norm
from fednet.errors import BadInput
from fednet.tensors import manifest_of, pack, views
from tests.worker.fakes import TinyData, tiny_net


def test_the_names_are_those_of_parameters_and_statistics() -> None:
    names = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert norm_tensors(tiny_net()) == {f"features.1.{name}" for name in names}
    assert norm_tensors(nn.Linear(2, 2)) == set()


def test_statistics_become_those_of_the_images_and_weights_stay() -> None:
    model = tiny_net().eval()
    layer = model.features[1]
    assert isinstance(layer, nn.BatchNorm2d)
    layer.running_mean = torch.full((4,), 1e6)  # poisoned
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" not in name}
    images = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    reestimate(model, torch.split(images, 8))
    seen = model.features[0](images).detach()
    assert layer.running_mean is not None
    assert torch.allclose(layer.running_mean, seen.mean(dim=(0, 2, 3)), atol=1e-5)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items() if "tracked" not in name)
    assert layer.momentum == 0.1
    assert not model.training
    assert not layer.training


def test_a_flat_model_gets_the_same_statistics_each_time_and_nothing_else_new() -> None:
    model = tiny_net()
    manifest = manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()])
    flat = pack(model.state_dict(), manifest)
    refit = Refitter(tiny_net(seed=1), TinyData(40), manifest)
    made = refit(flat)
    assert torch.equal(made, refit(flat))
    before, after = views(flat, manifest), views(made, manifest)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"features.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


@pytest.mark.parametrize("asked", ["local", "reestimated"])
def test_a_model_without_batch_norm_has_nothing_to_keep_or_take_anew(asked: str) -> None:
    with pytest.raises(BadInput, match="no BatchNorm"):
        require_batch_norm(nn.Linear(2, 2), name="resnet18-gn", asked=asked)
    require_batch_norm(nn.Linear(2, 2), name="resnet18-gn", asked="averaged")
    require_batch_norm(tiny_net(), name="tiny", asked=asked)
