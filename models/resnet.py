"""ResNet18 with its last layer replaced: 3-channel images in, one logit per class out; with BatchNorm or GroupNorm.

Sources: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, in torchvision's
implementation; Wu, He, "Group Normalization", ECCV 2018; Hsieh et al., "The Non-IID Data Quagmire", ICML 2020.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import ResNet
from torchvision.models import resnet18 as torchvision_resnet18
from torchvision.models.resnet import BasicBlock

_GROUPS = 32  # Wu & He's default


def resnet18(classes: int) -> nn.Module:
    """Return an untrained ResNet18 with `classes` logits (11,178,564 parameters for 4)."""
    model: nn.Module = torchvision_resnet18(weights=None)
    return with_last_layer(model, classes)


def resnet18_gn(classes: int) -> nn.Module:
    """Return an untrained ResNet18 with GroupNorm (11,178,564 parameters for 4 classes, and no buffers).

    A batch's statistics never matter: sites with unlike class mixes disagree less, and differential privacy can tell
    samples apart. ImageNet weights of the BatchNorm network do not fit it.
    """
    model: nn.Module = ResNet(_Block, [2, 2, 2, 2], num_classes=classes, norm_layer=_group_norm)
    model.relu = nn.ReLU()
    return model


class _Block(BasicBlock):  # type: ignore[misc] # torchvision has no types
    """torchvision's block, adding out of place: gradients per sample (Opacus) need what went in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        skipped = x if self.downsample is None else self.downsample(x)
        return torch.relu(inner + skipped)


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(_GROUPS, channels)


def with_last_layer(model: nn.Module, classes: int) -> nn.Module:
    """Replace ImageNet's 1,000 logits by `classes` fresh ones."""
    last = model.fc
    assert isinstance(last, nn.Linear)
    model.fc = nn.Linear(last.in_features, classes)
    return model
