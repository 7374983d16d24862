import torch
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from models.registry import build
from models.resnet import resnet18


def test_the_last_layer_has_a_logit_per_class_and_the_rest_is_resnet18() -> None:
    model = resnet18(4)
    assert isinstance(model.fc, nn.Linear)
    assert model.fc.out_features == 4
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_178_564


def test_group_norm_needs_no_batch_and_no_buffers() -> None:
    model = build("resnet18-gn", classes=4).train()
    images = torch.randn(3, 3, 32, 32)
    assert not list(model.buffers())
    assert not [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]
    assert torch.allclose(model(images)[:1], model(images[:1]), atol=1e-4)
    assert sum(each.numel() for each in model.parameters()) == 11_178_564


def test_a_block_adds_out_of_place_to_the_same_sum_as_torchvisions() -> None:
    own = build("resnet18-gn", classes=4).eval()
    theirs = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=4, norm_layer=lambda width: nn.GroupNorm(32, width)).eval()
    theirs.load_state_dict(own.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(own(images), theirs(images), atol=1e-5)
