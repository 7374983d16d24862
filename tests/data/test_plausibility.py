import numpy as np
import pytest
from PIL import Image

from data.phantoms import phantom_set
from data.plausibility import doubts


def photo(width: int = 300, height: int = 200) -> Image.Image:
    """Return a picture of smooth colours."""
    coarse = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def test_no_phantom_is_doubted() -> None:
    for pixels, _ in phantom_set(40, seed=5, size=96):
        image = Image.fromarray(pixels)
        assert doubts(image) == []
        assert doubts(image.convert("RGB")) == []
        assert doubts(Image.fromarray(pixels.astype(np.uint16) * 200)) == []


@pytest.mark.parametrize(
    ("image", "doubt"),
    [
        (photo(), "in colour"),
        (photo().convert("L"), "border is bright"),
        (photo(width=500), "sides are 500 to 200"),
        (Image.new("L", (64, 64), 90), "hardly any contrast"),
        (Image.new("L", (1, 1), 90), "hardly any contrast"),
    ],
)
def test_what_is_no_head_slice_is_doubted_by_name(image: Image.Image, doubt: str) -> None:
    assert any(doubt in each for each in doubts(image))
