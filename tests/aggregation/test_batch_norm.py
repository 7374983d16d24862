import pytest
import torch
from torch import nn

from fednet.aggregation.batch_norm import norm_tensors, reestimate, require_batch_norm
from fednet.errors import BadInput
from tests.worker.fakes import tiny_net


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


@pytest.mark.parametrize("asked", ["local", "reestimated"])
def test_a_model_without_batch_norm_has_nothing_to_keep_or_take_anew(asked: str) -> None:
    with pytest.raises(BadInput, match="no BatchNorm"):
        require_batch_norm(nn.Linear(2, 2), name="resnet18-gn", asked=asked)
    require_batch_norm(nn.Linear(2, 2), name="resnet18-gn", asked="averaged")
    require_batch_norm(tiny_net(), name="tiny", asked=asked)
