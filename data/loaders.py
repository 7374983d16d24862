"""Batches of scans: shuffled, augmented and normalised on the training device, without making it wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from data.classes import CLASSES
from data.images import ScanSet
from data.transforms import augmentation, augmented, normalised

_RESIDENT_SHARE = 0.25  # of a GPU's free memory: scans that take more stay in the machine's own, and travel in batches


class ScanLoader:
    """The scans of one folder as batches. Satisfies `fednet.worker.training.PickedData`."""

    def __init__(
        self, scans: ScanSet, device: torch.device, *, share: Callable[[int], slice] = lambda count: slice(0, count)
    ) -> None:
        """`share`: which images of a batch of so many are wanted here, where several processes share the batches."""
        self.scans = scans
        self._share = share
        self._device = device
        self._images = scans.images.to(device) if _fits(scans.images, device) else scans.images  # uint8
        self._labels = scans.labels.to(device)

    @property
    def samples(self) -> int:
        """How many scans there are."""
        return len(self._labels)

    @property
    def class_counts(self) -> torch.Tensor:
        """How many scans there are of each class  # (classes,) int64, on the CPU."""
        return torch.bincount(self.scans.labels, minlength=len(CLASSES))

    def batch_count(self, batch_size: int) -> int:
        """Return how many batches one epoch has."""
        return len(self._bounds(batch_size))

    def batches(
        self, *, batch_size: int, seed: int, augment: bool, balanced: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images  # (b, 3, s, s) float32, labels  # (b,) int64) of one epoch, in an order made from `seed`.

        `balanced`: as many, drawn with replacement, each class as likely as another. The last batch takes a single
        image that would be left over: BatchNorm cannot train on one. What an epoch draws goes to the device at once.
        """
        generator = torch.Generator().manual_seed(seed)
        order = self._drawn(generator) if balanced else torch.randperm(self.samples, generator=generator)
        plan = self._sent(augmentation(self.samples, generator)) if augment else None
        places = order.to(self._images.device)
        labels = self._labels[self._sent(order)]
        for start, stop in self._bounds(batch_size):
            own = range(start, stop)[self._share(stop - start)]
            grey = self._sent(self._images[places[own.start : own.stop]])
            images = normalised(grey) if plan is None else augmented(grey, plan[own.start : own.stop])
            yield images, labels[start:stop]

    def picked(self, places: torch.Tensor, *, augmentation_seed: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (images  # (b, 3, s, s) float32, labels  # (b,) int64) of these scans  # (b,) int64, on the CPU."""
        grey = self._sent(self._images[places.to(self._images.device)])
        labels = self._labels[self._sent(places)]
        if augmentation_seed is None:
            return normalised(grey), labels
        plan = augmentation(len(places), torch.Generator().manual_seed(augmentation_seed))
        return augmented(grey, self._sent(plan)), labels

    def in_order(self, *, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield every scan once, as it is, for evaluation."""
        for start in range(0, self.samples, batch_size):
            stop = start + batch_size
            yield normalised(self._sent(self._images[start:stop])), self._labels[start:stop]

    def _drawn(self, generator: torch.Generator) -> torch.Tensor:
        chances = 1 / self.class_counts.clamp(min=1).double()
        return torch.multinomial(chances[self.scans.labels], self.samples, replacement=True, generator=generator)

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return it on the device; from pinned memory, so that the device goes on with what it does meanwhile."""
        if self._device.type == "cuda" and not tensor.is_cuda:
            return tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor.to(self._device)

    def _bounds(self, batch_size: int) -> list[tuple[int, int]]:
        bounds = [(start, min(start + batch_size, self.samples)) for start in range(0, self.samples, batch_size)]
        if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
            last = bounds.pop()
            bounds[-1] = (bounds[-1][0], last[1])
        return bounds


def _fits(images: torch.Tensor, device: torch.device) -> bool:
    """Whether the scans can stay on the device: 2,900 of 224 pixels are 146 MB."""
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    room = min(free, total * torch.cuda.get_per_process_memory_fraction(device))  # the process may not have all of it
    return images.numel() <= _RESIDENT_SHARE * room
