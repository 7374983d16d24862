"""Scans of a folder as uint8 tensors, decoded or from the cache; broken files are skipped, counted and listed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from data.cache import Known, ScanCache, key_of
from data.classes import CLASSES, EXPECTED_FOLDERS, class_of
from data.greys import Pixels, square
from data.progress import Progress, counted, untold
from data.scan_files import is_scan_file, read_slices
from data.slices import MIDDLE
from fednet.errors import DataError

MAX_BAD_FRACTION = 0.01

_KEPT_EVERY_S = 10.0  # as much decoding is lost where a process is killed


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read as an image."""

    path: Path
    reason: str


@dataclass(frozen=True)
class ScanSet:
    """All scans of one folder."""

    images: torch.Tensor  # (n, 1, size, size) uint8, grey; may be mapped from a cache, which writing here leaves alone
    labels: torch.Tensor  # (n,) int64, index into CLASSES
    skipped: tuple[BadFile, ...]
    from_cache: int = 0  # how many of them needed no decoding

    def class_counts(self) -> dict[str, int]:
        """Return how many scans there are of each class."""
        counts = torch.bincount(self.labels, minlength=len(CLASSES)).tolist()
        return dict(zip(CLASSES, counts, strict=True))


@dataclass(frozen=True)
class _Scan:
    """One file that could be read, and what a cache knows of it or is to keep."""

    pixels: Pixels
    known: Known | None

    @property
    def row(self) -> int | None:
        """Where in the cache the pixels are, if they are from there."""
        return None if self.known is None else self.known.row


def load_folder(
    folder: Path,
    *,
    image_size: int,
    max_bad_fraction: float = MAX_BAD_FRACTION,
    cache: ScanCache | None = None,
    progress: Progress = untold,
) -> ScanSet:
    """Return every scan under `folder` (one folder per class) at `image_size` pixels square.

    The order is that of the file names, whatever the file system's; `cache`, of this folder and size, changes no pixel.
    Raises `DataError` for a missing folder, folders that are no classes, no image at all, or more than
    `max_bad_fraction` broken files.
    """
    found = list(files_of(folder))
    read = _read_all([path for path, _ in found], image_size, cache, progress)
    bad = tuple(each for each in read if isinstance(each, BadFile))
    refuse_too_many(bad, len(found), max_bad_fraction)
    good = [(each, label) for each, (_, label) in zip(read, found, strict=True) if not isinstance(each, BadFile)]
    if not good:
        raise DataError(f"{folder}", found="no readable image", expected=f"images in {EXPECTED_FOLDERS}")
    scans = [scan for scan, _ in good]
    return ScanSet(
        _images(scans, cache),
        torch.tensor([label for _, label in good]),
        bad,
        from_cache=sum(each.row is not None for each in scans),
    )


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


def _read_all(
    paths: Sequence[Path], image_size: int, cache: ScanCache | None, progress: Progress
) -> list[_Scan | BadFile]:
    """Return each file from the cache, or decoded: in threads, of which Pillow lets several decode at once."""
    read: list[_Scan | BadFile] = []
    kept, keep_s = 0, time.monotonic() + _KEPT_EVERY_S
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for each in counted(pool.map(partial(_read, image_size=image_size, cache=cache), paths), len(paths), progress):
            read.append(each)
            if cache is not None and time.monotonic() > keep_s:
                cache.keep(_to_keep(read[kept:]))
                kept, keep_s = len(read), time.monotonic() + _KEPT_EVERY_S
    if cache is not None:
        cache.keep(_to_keep(read[kept:]))
        cache.keep_only([known.name for known, _ in _to_keep(read)])
    return read


def _read(path: Path, image_size: int, cache: ScanCache | None) -> _Scan | BadFile:
    known = None
    try:
        known = cache.find(path) if cache is not None else None
        if cache is not None and known is not None and known.row is not None:
            return _Scan(cache.rows[known.row].numpy(), known)
    except OSError:
        pass  # decoding finds the same, and says it
    pixels = decode(path, image_size)
    if isinstance(pixels, BadFile):
        return pixels
    return _Scan(pixels, known if known is not None and _is_still(path, known) else None)


def _is_still(path: Path, known: Known) -> bool:
    """Whether what was decoded is what the cache was asked for: nobody wrote to the file meanwhile."""
    try:
        return key_of(path) == known.key
    except OSError:
        return False


def _to_keep(read: Sequence[_Scan | BadFile]) -> list[tuple[Known, Pixels]]:
    return [(each.known, each.pixels) for each in read if isinstance(each, _Scan) and each.known is not None]


def _images(scans: Sequence[_Scan], cache: ScanCache | None) -> torch.Tensor:
    """Return the pixels  # (n, 1, size, size); not copied where they follow each other in the cache."""
    first = scans[0].row
    if cache is not None and first is not None:
        end = first + len(scans)
        if [each.row for each in scans] == list(range(first, end)):
            return cache.rows[first:end].unsqueeze(1)
    return torch.from_numpy(np.stack([each.pixels for each in scans])).unsqueeze(1)


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
