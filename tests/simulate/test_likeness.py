import math

import pytest
import torch

from fednet.simulate.likeness import in_order_of, likeness, nearest


def noise(seed: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, 24, 24, generator=torch.Generator().manual_seed(seed))


def test_an_image_is_most_like_itself() -> None:
    image = noise(0)[0]
    same, other = likeness(image, image), likeness(noise(1)[0], image)
    assert same.mse == 0.0
    assert same.ssim == pytest.approx(1.0)
    assert other.mse == pytest.approx(1 / 6, rel=0.15), "of independent uniform numbers"
    assert other.psnr == pytest.approx(-10 * math.log10(other.mse))
    assert abs(other.ssim) < 0.15


def test_even_images_differ_by_their_light_alone() -> None:
    dark, bright = torch.full((1, 16, 16), 0.2), torch.full((1, 16, 16), 0.6)
    steadier = 0.01**2
    assert likeness(dark, bright).ssim == pytest.approx((0.24 + steadier) / (0.4 + steadier), rel=1e-4)


def test_rebuilt_images_are_put_into_the_scans_order() -> None:
    scans = noise(2, count=3)
    shuffled = scans[[2, 0, 1]] + 0.05
    assert torch.equal(in_order_of(shuffled, scans), scans + 0.05)


def test_the_nearest_one_is_named() -> None:
    scans = noise(3, count=4)
    assert nearest(scans[2] + 0.1, scans) == 2
