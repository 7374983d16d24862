from pathlib import Path

import pytest
import torch

from data.images import ScanSet, load_folder
from data.loaders import ScanLoader
from tests.data.scans import write_folder

CPU = torch.device("cpu")


@pytest.fixture
def loader(tmp_path: Path) -> ScanLoader:
    return ScanLoader(load_folder(write_folder(tmp_path), image_size=16), CPU)


def epoch(loader: ScanLoader, seed: int, *, augment: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    found = list(loader.batches(batch_size=5, seed=seed, augment=augment))
    return torch.cat([images for images, _ in found]), torch.cat([labels for _, labels in found])


def test_an_epoch_has_every_sample_once(loader: ScanLoader) -> None:
    images, labels = epoch(loader, 0)
    assert images.shape == (12, 3, 16, 16)
    assert labels.bincount().tolist() == [3, 3, 3, 3]


def test_the_seed_decides_order_and_augmentation(loader: ScanLoader) -> None:
    first, again, other = epoch(loader, 1), epoch(loader, 1), epoch(loader, 2)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], other[1])
    assert not torch.equal(epoch(loader, 1, augment=False)[0], first[0])


def test_scans_are_had_one_by_one(loader: ScanLoader) -> None:
    images, labels = next(loader.in_order(batch_size=12))
    places = torch.tensor([7, 2, 7])
    found, whose = loader.picked(places, augmentation_seed=None)
    assert torch.equal(found, images[places]) and torch.equal(whose, labels[places])
    augmented, again = (loader.picked(places, augmentation_seed=3)[0] for _ in range(2))
    assert torch.equal(augmented, again)
    assert not torch.equal(augmented[0], augmented[2]), "each drawing has an augmentation of its own"
    assert loader.picked(places[:0], augmentation_seed=3)[0].shape == (0, 3, 16, 16)


def test_balanced_batches_draw_every_class_alike(tmp_path: Path) -> None:
    scans = load_folder(write_folder(tmp_path), image_size=16)
    few = torch.cat([torch.arange(12), torch.arange(3).repeat(40)])  # 123 of the first class, 3 of each other
    loader = ScanLoader(ScanSet(scans.images[few], scans.labels[few], ()), CPU)
    drawn = [labels for _, labels in loader.batches(batch_size=32, seed=0, augment=False, balanced=True)]
    counts = torch.cat(drawn).bincount(minlength=4)
    assert loader.class_counts.tolist() == [123, 3, 3, 3]
    assert int(counts.sum()) == loader.samples
    assert counts.min() > 20


@pytest.mark.parametrize(("batch_size", "sizes"), [(5, [5, 5, 2]), (11, [12]), (12, [12]), (100, [12])])
def test_no_batch_has_a_single_image(loader: ScanLoader, batch_size: int, sizes: list[int]) -> None:
    found = [len(labels) for _, labels in loader.batches(batch_size=batch_size, seed=0, augment=False)]
    assert found == sizes
    assert loader.batch_count(batch_size) == len(sizes)


def test_shares_of_a_batch_are_the_batch(loader: ScanLoader) -> None:
    parts = [
        ScanLoader(loader.scans, CPU, share=share)
        for share in (lambda count: slice(0, count // 3), lambda count: slice(count // 3, count))
    ]
    epochs = [each.batches(batch_size=5, seed=3, augment=True) for each in (loader, *parts)]
    for whole, *own in zip(*epochs, strict=True):
        assert torch.allclose(torch.cat([images for images, _ in own]), whole[0], atol=1e-5)
        assert all(torch.equal(labels, whole[1]) for _, labels in own)


@pytest.mark.parametrize("augment", [True, False])
def test_a_share_may_be_empty(loader: ScanLoader, augment: bool) -> None:
    nothing = ScanLoader(loader.scans, CPU, share=lambda count: slice(0, 0))
    images, labels = next(nothing.batches(batch_size=5, seed=0, augment=augment))
    assert images.shape == (0, 3, 16, 16)
    assert len(labels) == 5


def test_evaluation_sees_the_scans_in_order_and_as_they_are(loader: ScanLoader) -> None:
    labels = torch.cat([labels for _, labels in loader.in_order(batch_size=5)])
    assert torch.equal(labels, loader.scans.labels)
