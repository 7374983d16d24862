import torch
from torch.nn import functional

from data.transforms import MEAN, STD, augmentation, augmented, normalised


def grey(count: int, size: int) -> torch.Tensor:
    """Return noise as scans  # (count, 1, size, size) uint8."""
    return torch.randint(0, 256, (count, 1, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def plan(count: int) -> torch.Tensor:
    """Return what happens to so many images  # (count, 7)."""
    return augmentation(count, torch.Generator().manual_seed(5))


def test_grey_becomes_three_normalised_channels() -> None:
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    result = normalised(images)
    assert result.shape == (1, 3, 1, 2)
    assert torch.allclose(result[0, :, 0, 0], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    assert torch.allclose(result[0, :, 0, 1], torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))


def test_what_the_model_sees_is_channels_last() -> None:
    images = grey(2, 8)
    assert normalised(images).is_contiguous(memory_format=torch.channels_last)
    assert augmented(images, plan(2)).is_contiguous(memory_format=torch.channels_last)


def test_augmentation_keeps_shape_and_comes_from_the_generator_alone() -> None:
    images = grey(4, 16)
    torch.manual_seed(1)
    first = augmented(images, plan(4))
    torch.manual_seed(2)
    second = augmented(images, plan(4))
    assert first.shape == (4, 3, 16, 16)
    assert torch.equal(first, second)
    assert not torch.allclose(first, normalised(images))


def test_moving_the_grey_is_moving_the_normalised_channels() -> None:
    images, moves = grey(5, 24), plan(5)
    grid = functional.affine_grid(moves[:, :6].view(5, 2, 3), [5, 3, 24, 24], align_corners=False)
    moved = functional.grid_sample(normalised(images), grid, padding_mode="border", align_corners=False)
    assert torch.allclose(augmented(images, moves), moved * moves[:, 6].view(5, 1, 1, 1), atol=1e-4)


def test_an_augmentation_of_nothing_is_the_scan() -> None:
    images, nothing = grey(3, 16), torch.tensor([[1.0, 0, 0, 0, 1, 0, 1]]).expand(3, 7)
    assert torch.allclose(augmented(images, nothing), normalised(images), atol=1e-4)


def test_no_image_is_no_image() -> None:
    assert augmented(grey(0, 16), plan(0)).shape == (0, 3, 16, 16)


def test_augmentation_is_mild() -> None:
    line = torch.linspace(-1, 1, 64)
    blob = (255 * torch.exp(-4 * (line[:, None] ** 2 + line[None] ** 2))).byte().expand(32, 1, 64, 64)
    black = torch.tensor(MEAN).div(torch.tensor(STD)).view(1, 3, 1, 1)
    seen, moved = normalised(blob) + black, augmented(blob, plan(32)) + black
    overlap = (moved * seen).sum(dim=(1, 2, 3)) / (moved.flatten(1).norm(dim=1) * seen.flatten(1).norm(dim=1))
    assert overlap.min() > 0.8
