"""Batches of scans that are in memory: shuffled, augmented and normalised on the training device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from data.images import ScanSet
from data.transforms import augmented, normalised


class ScanLoader:
    """The scans of one folder as batches. Satisfies `fednet.worker.training.TrainingData`."""

    def __init__(self, scans: ScanSet, device: torch.device) -> None:
        self.scans = scans
        self._device = device
        self._images = scans.images.to(device)  # uint8: 2,900 scans of 224 pixels are 146 MB
        self._labels = scans.labels.to(device)

    @property
    def samples(self) -> int:
        """How many scans there are."""
        return len(self._labels)

    def batch_count(self, batch_size: int) -> int:
        """Return how many batches one epoch has."""
        return len(self._bounds(batch_size))

    def batches(self, *, batch_size: int, seed: int, augment: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images  # (b, 3, s, s) float32, labels  # (b,) int64) of one epoch, in an order made from `seed`.

        The last batch takes a single image that would be left over: BatchNorm cannot train on one.
        """
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.samples, generator=generator).to(self._device)
        for start, stop in self._bounds(batch_size):
            chosen = order[start:stop]
            images = normalised(self._images[chosen])
            yield augmented(images, generator) if augment else images, self._labels[chosen]

    def in_order(self, *, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield every scan once, as it is, for evaluation."""
        for start in range(0, self.samples, batch_size):
            stop = start + batch_size
            yield normalised(self._images[start:stop]), self._labels[start:stop]

    def _bounds(self, batch_size: int) -> list[tuple[int, int]]:
        bounds = [(start, min(start + batch_size, self.samples)) for start in range(0, self.samples, batch_size)]
        if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
            last = bounds.pop()
            bounds[-1] = (bounds[-1][0], last[1])
        return bounds
