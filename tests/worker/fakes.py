"""A tiny model with BatchNorm, data for it, and an own-model file in memory, for tests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch
from torch import nn

from fednet.worker.workshop import Rounded, SavedTraining

_seeding = threading.Lock()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's own generator for as long as the block lasts, in one thread at a time.

    Workers of one process make their networks in threads. Torch locks its generator with the GIL held and may wait for
    the GIL with the generator locked: two threads at once can wait for each other for ever.
    """
    with _seeding, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class TinyNet(nn.Module):
    """Learns to tell bright from dark images."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.fc = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.features(images).mean(dim=(2, 3)))
        return logits


def tiny_net(seed: int = 0) -> TinyNet:
    """Return a network whose weights depend on `seed` alone."""
    with seeded(seed):
        return TinyNet()


class TinyData:
    """Bright images of class 1, dark ones of class 0."""

    def __init__(self, samples: int = 24, seed: int = 0, poison: float | None = None, device: str = "cpu") -> None:
        generator = torch.Generator().manual_seed(seed)
        self._labels = torch.arange(samples) % 2
        noise = torch.randn(samples, 3, 8, 8, generator=generator)
        self._images = noise + 2.0 * (self._labels.float().view(-1, 1, 1, 1) - 0.5)
        if poison is not None:
            self._images[0, 0, 0, 0] = poison
        self._labels, self._images = self._labels.to(device), self._images.to(device)

    @property
    def samples(self) -> int:
        return len(self._labels)

    def batch_count(self, batch_size: int) -> int:
        return -(-self.samples // batch_size)

    @property
    def class_counts(self) -> torch.Tensor:
        return self._labels.bincount(minlength=2)

    def batches(
        self, *, batch_size: int, seed: int, augment: bool, balanced: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(self.samples, generator=torch.Generator().manual_seed(seed))
        for start in range(0, self.samples, batch_size):
            chosen = order[start : start + batch_size]
            yield self._images[chosen], self._labels[chosen]

    def picked(self, places: torch.Tensor, *, augmentation_seed: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        return self._images[places], self._labels[places]

    def in_order(self, *, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, self.samples, batch_size):
            yield self._images[start : start + batch_size], self._labels[start : start + batch_size]


class MemoryOwnModel:
    """Keeps `client_<id>.pth` in memory, and counts how often it was written."""

    def __init__(self) -> None:
        self.saved: tuple[torch.Tensor, SavedTraining] | None = None
        self.rounded: Rounded | None = None
        self.writes = 0

    def save(self, flat: torch.Tensor, saved: SavedTraining) -> None:
        self.saved = (flat.clone(), saved)
        self.writes += 1

    def save_rounded(self, rounded: Rounded) -> None:
        self.rounded = rounded

    def load_rounded(self) -> Rounded | None:
        return self.rounded

    def load(self) -> tuple[torch.Tensor, SavedTraining] | None:
        return self.saved
