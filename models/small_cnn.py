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
        logits: torch.Tensor = self.fc(_on_grid(self.features(images)).flatten(1))
        return logits


def _on_grid(maps: torch.Tensor) -> torch.Tensor:
    """Return the average of each cell  # (b, channels, 4, 4).

    Where repeatable results are asked for, by slower ways: on CUDA the gradients of adaptive pooling are summed in
    whatever order they come.
    """
    if torch.are_deterministic_algorithms_enabled():
        return _averages(_averages(maps, dim=-2), dim=-1)
    return functional.adaptive_avg_pool2d(maps, _GRID)


def _averages(maps: torch.Tensor, *, dim: int) -> torch.Tensor:
    """Average one dimension of any size to the grid's, by the same cells as adaptive pooling, which may overlap."""
    size = maps.shape[dim]
    starts = [cell * size // _GRID for cell in range(_GRID)]
    ends = [-(-(cell + 1) * size // _GRID) for cell in range(_GRID)]
    cells = [maps.narrow(dim, start, end - start).mean(dim) for start, end in zip(starts, ends, strict=True)]
    return torch.stack(cells, dim)


def _block(low: int, high: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(low, high, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(high),
        nn.MaxPool2d(2),  # before the ReLU: the same values, and a quarter of them to clip
        nn.ReLU(),
    )
