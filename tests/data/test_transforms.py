import torch

from data.transforms import augmentation, augmented, normalised


def test_grey_becomes_three_normalised_channels() -> None:
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    result = normalised(images)
    assert result.shape == (1, 3, 1, 2)
    assert torch.allclose(result[0, :, 0, 0], torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    assert torch.allclose(result[0, :, 0, 1], torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))


def test_augmentation_keeps_shape_and_comes_from_the_generator_alone() -> None:
    images = torch.rand(4, 3, 16, 16)
    torch.manual_seed(1)
    first = augmented(images, augmentation(4, torch.Generator().manual_seed(5)))
    torch.manual_seed(2)
    second = augmented(images, augmentation(4, torch.Generator().manual_seed(5)))
    assert first.shape == images.shape
    assert torch.equal(first, second)
    assert not torch.allclose(first, images)


def test_augmentation_is_mild() -> None:
    grid = torch.linspace(-1, 1, 64)
    blob = torch.exp(-4 * (grid[:, None] ** 2 + grid[None] ** 2)).expand(32, 1, 64, 64)
    moved = augmented(blob, augmentation(32, torch.Generator().manual_seed(0)))
    overlap = (moved * blob).sum(dim=(1, 2, 3)) / (moved.flatten(1).norm(dim=1) * blob.flatten(1).norm(dim=1))
    assert overlap.min() > 0.8
