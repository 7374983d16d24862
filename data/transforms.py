"""From uint8 grey scans to what the model sees, and the augmentation of a batch; both on the batch's own device."""

from __future__ import annotations

import torch
from torch.nn import functional
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: what pretrained weights expect

_NORMALISE = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

MAX_ROTATION = 0.17  # radians, about 10 degrees
MAX_SHIFT = 0.06  # of the image's width
MAX_ZOOM = 0.10
MAX_CONTRAST = 0.15  # around ImageNet's mean grey, which is 0 after normalisation


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return grey uint8 images  # (b, 1, s, s) as the model's input  # (b, 3, s, s) float32."""
    result: torch.Tensor = _NORMALISE(images.expand(-1, 3, -1, -1))
    return result


def augmentation(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return what `augmented` does to so many images: six decisions each  # (6, count) float32 in [-1, 1).

    `generator` lives on the CPU and decides alone, so the same seed augments alike on every device.
    """
    return torch.rand(6, count, generator=generator) * 2 - 1


def augmented(images: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Return `images`  # (b, c, s, s) float32, each mirrored or not, turned, shifted, zoomed, its contrast changed.

    `chance`  # (6, b) on the same device: what `augmentation` decided. Left and right may be swapped: the classes do
    not depend on the side.
    """
    count = images.shape[0]
    angle, zoom = chance[0] * MAX_ROTATION, 1 + chance[1] * MAX_ZOOM
    mirror = torch.where(chance[2] < 0, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    matrix = torch.stack(
        [cosine * mirror, -sine, chance[3] * MAX_SHIFT * 2, sine * mirror, cosine, chance[4] * MAX_SHIFT * 2], dim=1
    ).view(count, 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast = (1 + chance[5] * MAX_CONTRAST).view(count, 1, 1, 1)
    return moved * contrast
