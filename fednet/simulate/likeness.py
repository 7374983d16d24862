"""How alike two grey images are: by pixels, and by structure."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch.nn import functional

_WINDOW, _DEVIATION = 11, 1.5  # pixels: Wang et al.'s
_STEADIER = (0.01**2, 0.03**2)  # theirs, of a range of 1


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What one image has of another."""

    mse: float  # of grey from 0 to 1
    psnr: float  # dB
    ssim: float  # 1: the same; 0: nothing in common


def likeness(found: torch.Tensor, truth: torch.Tensor) -> Likeness:
    """Compare two images  # (1, s, s), grey of 0 to 1, at least 11 pixels wide."""
    mse = float((found - truth).square().mean())
    return Likeness(mse=mse, psnr=-10 * math.log10(max(mse, 1e-12)), ssim=_ssim(found, truth))


def in_order_of(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the images `found`  # (b, 1, s, s), a few, in the order in which they are most like `truth`'s."""
    apart = (found.unsqueeze(1) - truth.unsqueeze(0)).square().mean(dim=(2, 3, 4))  # (found, truth)
    places = range(len(truth))
    best = min(itertools.permutations(places), key=lambda order: sum(float(apart[a, b]) for b, a in enumerate(order)))
    return found[list(best)]


def nearest(found: torch.Tensor, others: torch.Tensor) -> int:
    """Return which of `others`  # (n, 1, s, s) is nearest to one image  # (1, s, s), pixel by pixel."""
    return int((others - found).square().mean(dim=(1, 2, 3)).argmin())


def _ssim(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the mean structural similarity.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity",
    IEEE Transactions on Image Processing 2004; Gaussian windows that lie within the image.
    """
    a, b = found.double().unsqueeze(0), truth.double().unsqueeze(0)
    places = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    bell = torch.exp(-places.square() / (2 * _DEVIATION**2))
    window = torch.outer(bell, bell)[None, None] / bell.sum() ** 2
    mean_a, mean_b, square_a, square_b, product = (
        functional.conv2d(each, window) for each in (a, b, a * a, b * b, a * b)
    )
    variances = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    first, second = _STEADIER
    light = (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)
    return float((light * (2 * covariance + second) / (variances[0] + variances[1] + second)).mean())
