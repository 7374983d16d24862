"""Grad-CAM: which places of a slice speak for a class, laid over the slice in colour.

Source: Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017;
captum's LayerGradCam.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from captum.attr import LayerGradCam
from matplotlib import colormaps
from PIL import Image
from torch import nn
from torch.nn import functional

from data.greys import Pixels
from data.transforms import normalised

_MIN_SIDE = 256  # pixels of the picture: a scan of 64 pixels is hard to look at
_STRENGTH = 0.6  # of the colour where a place speaks most


def heat(model: nn.Module, layer: nn.Module, image: torch.Tensor, *, label: int) -> torch.Tensor:
    """Return how much each pixel of a slice  # (1, s, s) uint8 speaks for `label`  # (s, s), 0 to 1.

    All 0 where nothing speaks for it.
    """
    found = LayerGradCam(model, layer).attribute(
        normalised(image.unsqueeze(0)), target=label, relu_attributions=True
    )  # (1, 1, h, w)
    found = functional.interpolate(found.detach().float(), size=image.shape[1:], mode="bilinear", align_corners=False)
    places: torch.Tensor = found[0, 0].cpu()
    return places / places.max().clamp(min=1e-12)


def overlay(pixels: Pixels, places: torch.Tensor) -> Image.Image:
    """Return a grey slice  # (s, s) with the heat  # (s, s) over it, large enough to look at."""
    share = places.numpy()[..., None]
    colours = colormaps["inferno"](places.numpy())[..., :3] * 255
    grey = np.repeat(pixels[..., None].astype(np.float64), 3, axis=2)
    mixed = grey * (1 - _STRENGTH * share) + colours * _STRENGTH * share
    picture = Image.fromarray(np.rint(mixed).astype(np.uint8))
    side = max(_MIN_SIDE, picture.width)
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def as_png(picture: Image.Image) -> bytes:
    """Return the bytes of a PNG file."""
    content = io.BytesIO()
    picture.save(content, format="PNG")
    return content.getvalue()
