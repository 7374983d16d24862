import pytest
import torch

from fednet.errors import ModelError
from models.registry import build, last_convolution, names


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("size", [32, 96])
def test_every_architecture_gives_one_logit_per_class(name: str, size: int) -> None:
    model = build(name, classes=4).eval()
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 4)


@pytest.mark.parametrize("name", names())
def test_the_seed_decides_the_weights(name: str) -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(torch.cat([each.flatten() for each in build(name, classes=4).parameters()]))
    assert torch.equal(*made)


@pytest.mark.parametrize("name", names())
def test_no_convolution_comes_after_the_last(name: str) -> None:
    model = build(name, classes=4)
    convolutions = [each for each in model.modules() if isinstance(each, torch.nn.Conv2d)]
    assert last_convolution(model, name) is convolutions[-1]


def test_an_unknown_architecture_is_answered_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="resnet18, resnet18-gn, small-cnn"):
        build("vgg", classes=4)
