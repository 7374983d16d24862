"""Finds the scans of a data set: Kaggle's layout, Kaggle's zip, or a flat one with a folder per class."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.classes import EXPECTED_FOLDERS, class_of
from data.images import files_of
from fednet.errors import DataError

TRAINING, TESTING = "Training", "Testing"
_HOW_TO_GET = (
    "download 'Brain Tumor Classification (MRI)' by sartajbhuvaji from Kaggle and pass its zip or folder, "
    "or pass --phantoms for synthetic data"
)


@dataclass(frozen=True)
class ScanFile:
    """One image file of a data set."""

    path: Path
    name: str  # relative to the data set, with forward slashes
    label: int
    is_testing: bool  # in the published test set


@contextlib.contextmanager
def opened_dataset(dataset: Path | None) -> Iterator[list[ScanFile]]:
    """Yield the scan files of `dataset`, sorted by name; a zip is unpacked for as long as the block runs.

    Without a data set the one in the current folder is taken. Raises `DataError`.
    """
    found = dataset if dataset is not None else _in_current_folder()
    if not found.exists():
        raise DataError(f"data set {found}", found="no such file or folder", todo=_HOW_TO_GET)
    if found.is_dir():
        yield _scan_files(found)
        return
    with tempfile.TemporaryDirectory(prefix="fednet-") as unpacked:
        try:
            with zipfile.ZipFile(found) as archive:
                archive.extractall(unpacked)
        except (zipfile.BadZipFile, OSError, RuntimeError) as exc:
            raise DataError(f"data set {found}", found=f"no readable zip ({exc})", todo=_HOW_TO_GET) from exc
        yield _scan_files(Path(unpacked))


def _in_current_folder() -> Path:
    here = Path()
    candidates = [child for child in sorted(here.iterdir()) if child.is_dir() and _is_kaggle(child)]
    candidates += [child for child in sorted(here.glob("*.zip")) if _is_kaggle_zip(child)]
    if _is_kaggle(here):
        candidates.insert(0, here)
    if not candidates:
        raise DataError("DATASET", found="none given and none in the current folder", todo=_HOW_TO_GET)
    return candidates[0]


def _is_kaggle(folder: Path) -> bool:
    return (folder / TRAINING).is_dir() and (folder / TESTING).is_dir()


def _is_kaggle_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(f"{TRAINING}/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _scan_files(folder: Path) -> list[ScanFile]:
    root = _root_of(folder)
    if not _is_kaggle(root):
        return [_scan_file(root, path, label, is_testing=False) for path, label in files_of(root)]
    return [
        _scan_file(root, path, label, is_testing=part == TESTING)
        for part in (TESTING, TRAINING)
        for path, label in files_of(root / part)
    ]


def _scan_file(root: Path, path: Path, label: int, *, is_testing: bool) -> ScanFile:
    return ScanFile(path, path.relative_to(root).as_posix(), label, is_testing)


def _root_of(folder: Path) -> Path:
    """Return `folder`, or the one folder in it that holds the data (zips often have such a folder around all)."""
    candidates = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    for candidate in candidates:
        if _is_kaggle(candidate):
            return candidate
    for candidate in candidates:
        if any(child.is_dir() and class_of(child.name) is not None for child in candidate.iterdir()):
            return candidate
    raise DataError(
        f"data set {folder}", found="no class folders", expected=f"{TRAINING}/ and {TESTING}/, or {EXPECTED_FOLDERS}"
    )
