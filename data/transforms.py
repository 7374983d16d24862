"""From uint8 grey scans to what the model sees, and the augmentation of a batch; both on the batch's own device."""

from __future__ import annotations

import functools

import torch
from torch.nn import functional

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's: what pretrained weights expect

MAX_ROTATION = 0.17  # radians, about 10 degrees
MAX_SHIFT = 0.06  # of the image's width
MAX_ZOOM = 0.10
MAX_CONTRAST = 0.15  # around ImageNet's mean grey, which is 0 after normalisation


def normalised(images: torch.Tensor) -> torch.Tensor:
    """Return grey uint8 images  # (b, 1, s, s) as the model's input  # (b, 3, s, s) float32, in channels_last."""
    return _coloured(images.float(), *_factors(images.device))


def augmentation(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return what `augmented` does to so many images  # (count, 7) float32, on the CPU.

    Of each: an affine matrix, row by row, from places in the result to places in the scan, both from -1 to 1, and a
    factor of contrast. `generator` decides alone, so the same seed augments alike on every device.
    """
    chance = torch.rand(6, count, generator=generator) * 2 - 1
    angle, zoom = chance[0] * MAX_ROTATION, 1 + chance[1] * MAX_ZOOM
    mirror = torch.where(chance[2] < 0, -1.0, 1.0)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    shift = chance[3:5] * MAX_SHIFT * 2
    contrast = 1 + chance[5] * MAX_CONTRAST
    return torch.stack([cosine * mirror, -sine, shift[0], sine * mirror, cosine, shift[1], contrast], dim=1)


def augmented(images: torch.Tensor, plan: torch.Tensor) -> torch.Tensor:
    """Return grey uint8 images  # (b, 1, s, s) as `normalised` does, each mirrored or not, turned, shifted, zoomed.

    Its contrast is changed, too. `plan`  # (b, 7) on the same device: their rows of `augmentation`. Left and right may
    be swapped: the classes do not depend on the side. The grey is moved before it becomes three channels, which is a
    third of the work.
    """
    if len(images) == 0:
        return normalised(images)  # grid_sample takes no empty batch
    places = _places(plan[:, :6].view(-1, 2, 3), images.shape[-1])
    moved = functional.grid_sample(images.float(), places, padding_mode="border", align_corners=False)
    contrast = plan[:, 6].view(-1, 1, 1, 1)
    scale, offset = _factors(images.device)
    return _coloured(moved, contrast * scale, contrast * offset)


def _places(matrices: torch.Tensor, size: int) -> torch.Tensor:
    """Return where each pixel comes from  # (b, s, s, 2), as `functional.affine_grid` does with a product of matrices.

    The two coordinates lie in planes of their own, which `grid_sample` reads fastest.
    """
    edge = 1 - 1 / size  # the middle of the outermost pixel
    middles = torch.linspace(-edge, edge, size, device=matrices.device)
    along = matrices[:, :, 0, None, None] * middles  # (b, 2, 1, s)
    down = torch.addcmul(matrices[:, :, 2, None, None], matrices[:, :, 1, None, None], middles[:, None])  # (b, 2, s, 1)
    return (down + along).permute(0, 2, 3, 1)


def _coloured(grey: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Return grey * scale + offset  # (b, 3, s, s), in channels_last, of grey  # (b, 1, s, s)."""
    return torch.addcmul(offset, grey.permute(0, 2, 3, 1), scale).permute(0, 3, 1, 2)


@functools.cache  # making them on a GPU would wait for it, every batch
def _factors(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (scale, offset) of each channel  # (3,): grey of 0 to 255 times scale plus offset is normalised."""
    mean, std = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)
