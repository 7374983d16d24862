import io

import numpy as np
import pytest
import torch
from PIL import Image

from data.phantoms import phantom_set
from models.explanation import as_png, heat, overlay
from models.registry import build, last_convolution, names


@pytest.mark.parametrize("name", names())
def test_every_architecture_can_be_explained(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, classes=4).eval()
    ((pixels, _),) = phantom_set(1, seed=3, size=64)
    found = [
        heat(model, last_convolution(model, name), torch.from_numpy(pixels).unsqueeze(0), label=label)
        for label in range(4)
    ]
    assert all(each.shape == (64, 64) and each.min() >= 0 and each.max() <= 1 for each in found)
    assert any(each.max() == 1 and each.std() > 0.01 for each in found)  # of untrained weights some class has places
    assert all(parameter.grad is None for parameter in model.parameters())


def test_heat_points_at_what_the_class_depends_on() -> None:
    """A network that sums the brightness of the left half: nothing on the right may be hot."""
    convolution = torch.nn.Conv2d(3, 1, 1)
    torch.nn.init.constant_(convolution.weight, 1.0)
    model = torch.nn.Sequential(convolution, _LeftHalf())
    image = torch.full((1, 16, 16), 255, dtype=torch.uint8)
    places = heat(model, convolution, image, label=0)
    assert places.max() == 1

    blind = heat(model, convolution, torch.zeros(1, 16, 16, dtype=torch.uint8), label=0)
    assert blind.max() == 0


def test_the_overlay_colours_hot_places_only() -> None:
    pixels = np.full((32, 32), 100, dtype=np.uint8)
    places = torch.zeros(32, 32)
    places[:16] = 1.0
    picture = Image.open(io.BytesIO(as_png(overlay(pixels, places))))
    assert picture.size == (256, 256)
    assert picture.getpixel((128, 250)) == (100, 100, 100)
    red, _, blue = picture.convert("RGB").getpixel((128, 5))  # type: ignore[misc]
    assert red > blue + 20


class _LeftHalf(torch.nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        half = maps[..., : maps.shape[-1] // 2].mean(dim=(1, 2, 3))
        return torch.stack([half, -half], dim=1)
