"""A small convolutional network for the demo and the tests: learns the phantoms in a few rounds on one core."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional

_GRID = 4  # the last feature map is averaged on a 4 x 4 grid: where a lesion lies tells the classes apart


class SmallCnn(nn.Module):
    """Four convolution blocks with BatchNorm and a linear layer; 85,332 parameters for 4 classes, any image size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 96)
        self.features = nn.Sequential(*(_block(low, high) for low, high in itertools.pairwise(widths)))
        self.fc = nn.Linear(widths[-1] * _GRID**2, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits  # (b, classes) of images  # (b, 3, s, s)."""
        pooled = functional.adaptive_avg_pool2d(self.features(images), _GRID).flatten(1)
        logits: torch.Tensor = self.fc(pooled)
        return logits


def _block(low: int, high: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(low, high, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(high),
        nn.MaxPool2d(2),  # before the ReLU: the same values, and a quarter of them to clip
        nn.ReLU(),
    )
