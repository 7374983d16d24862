"""Scans of a folder, decoded once into uint8 tensors; broken files are skipped, counted and listed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.classes import CLASSES, EXPECTED_FOLDERS, class_of
from data.greys import Pixels, square
from data.scan_files import is_scan_file, read_slices
from data.slices import MIDDLE
from fednet.errors import DataError

MAX_BAD_FRACTION = 0.01


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read as an image."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ScanSet:
    """All scans of one folder."""

    images: torch.Tensor  # (n, 1, size, size) uint8, grey
    labels: torch.Tensor  # (n,) int64, index into CLASSES
    skipped: tuple[BadFile, ...]

    def class_counts(self) -> dict[str, int]:
        """Return how many scans there are of each class."""
        counts = torch.bincount(self.labels, minlength=len(CLASSES)).tolist()
        return dict(zip(CLASSES, counts, strict=True))


def load_folder(folder: Path, *, image_size: int, max_bad_fraction: float = MAX_BAD_FRACTION) -> ScanSet:
    """Return every scan under `folder` (one folder per class) at `image_size` pixels square.

    The order is that of the file names, whatever the file system's. Raises `DataError` for a missing folder, folders
    that are no classes, no image at all, or more than `max_bad_fraction` broken files.
    """
    found = list(files_of(folder))
    decoded = decode_all([path for path, _ in found], image_size)
    bad = tuple(item for item in decoded if isinstance(item, BadFile))
    refuse_too_many(bad, len(found), max_bad_fraction)
    good = [(image, label) for image, (_, label) in zip(decoded, found, strict=True) if not isinstance(image, BadFile)]
    if not good:
        raise DataError(f"{folder}", found="no readable image", expected=f"images in {EXPECTED_FOLDERS}")
    images = torch.from_numpy(np.stack([image for image, _ in good])).unsqueeze(1)
    return ScanSet(images, torch.tensor([label for _, label in good]), bad)


def files_of(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield (image file, label) of every class folder, sorted by name; raises `DataError`."""
    if not folder.is_dir():
        raise DataError(
            f"data folder {folder}", found="no such folder", todo="check the path, or make the data with `cli.py split`"
        )
    folders = class_folders(folder)
    if not folders:
        raise DataError(f"data folder {folder}", found="no class folder in it", expected=EXPECTED_FOLDERS)
    for label in sorted(folders):
        for each in folders[label]:
            yield from ((path, label) for path in image_files(each))


def class_folders(folder: Path) -> dict[int, list[Path]]:
    """Return the class folders in `folder` by label; raises `DataError` for a folder that is no class."""
    by_label: dict[int, list[Path]] = {}
    for child in subfolders(folder):
        label = class_of(child.name)
        if label is None:
            raise DataError(
                f"folder {child}",
                found="a name that is no class",
                expected=EXPECTED_FOLDERS,
                todo="rename or remove it",
            )
        by_label.setdefault(label, []).append(child)
    return by_label


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, sorted by name, without hidden ones and what a Mac adds to a zip."""
    return [child for child in _children(folder) if child.is_dir() and not child.name.startswith((".", "__"))]


def image_files(folder: Path) -> list[Path]:
    """Return the image files in `folder`, sorted by name."""
    return [child for child in _children(folder) if is_scan_file(child)]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as exc:
        raise DataError(f"folder {folder}", found=f"it cannot be read ({exc.strerror})") from exc


def decode_all(paths: Sequence[Path], image_size: int) -> list[Pixels | BadFile]:
    """Return each file as grey uint8  # (image_size, image_size), or why it cannot be; decoded in parallel."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(lambda path: decode(path, image_size), paths))


def decode(path: Path, image_size: int, *, from_all_pixels: bool = False) -> Pixels | BadFile:
    """Return one file as grey uint8  # (image_size, image_size), antialiased, or why it cannot be read.

    Of a volume it is the middle slice. A large JPEG is decoded at a fraction of its size, more than twice as fast;
    `from_all_pixels` decodes it whole.
    """
    try:
        (middle,) = read_slices(path, MIDDLE, size=None if from_all_pixels else image_size)
        return square(middle.image, image_size)
    except (DataError, OSError) as exc:
        return BadFile(path, str(exc))


def refuse_too_many(bad: Sequence[BadFile], total: int, max_bad_fraction: float) -> None:
    """Raise `DataError` when more than this fraction of `total` files is broken, naming the first."""
    if bad and len(bad) > max_bad_fraction * total:
        raise DataError(
            f"{len(bad)} of {total} image files cannot be read, for example {bad[0].path} ({bad[0].reason})",
            expected=f"at most {max_bad_fraction:.1%}",
            todo="mend or remove them, or allow more with --max-bad-files",
        )
