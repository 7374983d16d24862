"""ResNet18 with its last layer replaced: 3-channel images in, one logit per class out.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; torchvision's implementation.
"""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18 as torchvision_resnet18


def resnet18(classes: int) -> nn.Module:
    """Return an untrained ResNet18 with `classes` logits (11,178,564 parameters for 4)."""
    model: nn.Module = torchvision_resnet18(weights=None)
    return with_last_layer(model, classes)


def with_last_layer(model: nn.Module, classes: int) -> nn.Module:
    """Replace ImageNet's 1,000 logits by `classes` fresh ones."""
    last = model.fc
    assert isinstance(last, nn.Linear)
    model.fc = nn.Linear(last.in_features, classes)
    return model
