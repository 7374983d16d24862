"""Finds the scans of a data set: Kaggle's layout, Kaggle's zip, or a flat one with a folder per class."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.classes import EXPECTED_FOLDERS, class_of
from data.images import files_of, subfolders
from data.scan_files import SUFFIXES
from fednet.errors import DataError
from fednet.storage.disk import storage_error

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


def find_dataset(dataset: Path | None) -> Path:
    """Return the folder or zip of `dataset`, or the one that lies in the current folder; raises `DataError`."""
    if dataset is None:
        return _in_current_folder()
    if not dataset.exists():
        raise DataError(f"data set {dataset}", found="no such file or folder", todo=_HOW_TO_GET)
    return dataset


@contextlib.contextmanager
def opened_dataset(dataset: Path) -> Iterator[list[ScanFile]]:
    """Yield the scan files of a folder or zip, by part, class and name; a zip is unpacked while the block runs.

    Raises `DataError`, or `DiskFull` when there is no room to unpack.
    """
    if dataset.is_dir():
        yield _scan_files(dataset, name=str(dataset))
        return
    with tempfile.TemporaryDirectory(prefix="fednet-") as unpacked:
        try:
            with zipfile.ZipFile(dataset) as archive:
                archive.extractall(unpacked)
        except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error) as exc:
            raise DataError(f"data set {dataset}", found=f"no readable zip ({exc})", todo=_HOW_TO_GET) from exc
        except OSError as exc:
            raise storage_error(Path(unpacked), exc) from exc
        yield _scan_files(Path(unpacked), name=str(dataset))


def _in_current_folder() -> Path:
    here = Path()
    if _is_kaggle(here) or _is_flat(here):
        return here.resolve()
    candidates = [child for child in subfolders(here) if _is_kaggle(child)]
    candidates += [child for child in sorted(here.glob("*.zip")) if _is_kaggle_zip(child)]
    if not candidates:
        raise DataError("DATASET", found="none given and none in the current folder", todo=_HOW_TO_GET)
    return candidates[0]


def _is_kaggle(folder: Path) -> bool:
    return (folder / TRAINING).is_dir() and (folder / TESTING).is_dir()


def _is_flat(folder: Path) -> bool:
    return any(class_of(child.name) is not None for child in subfolders(folder))


def _is_kaggle_zip(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(f"{TRAINING}/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def _scan_files(folder: Path, *, name: str) -> list[ScanFile]:
    root = _root_of(folder, name)
    if not _is_kaggle(root):
        found = [_scan_file(root, path, label, is_testing=False) for path, label in files_of(root)]
    else:
        found = [
            _scan_file(root, path, label, is_testing=part == TESTING)
            for part in (TESTING, TRAINING)
            for path, label in files_of(root / part)
        ]
    if not found:
        raise DataError(f"data set {name}", found="class folders without an image", expected=" ".join(SUFFIXES))
    return found


def _scan_file(root: Path, path: Path, label: int, *, is_testing: bool) -> ScanFile:
    return ScanFile(path, path.relative_to(root).as_posix(), label, is_testing)


def _root_of(folder: Path, name: str) -> Path:
    """Return `folder`, or the one folder in it that holds the data (zips often have such a folder around all)."""
    for holds_scans in (_is_kaggle, _is_flat):
        found = [folder] if holds_scans(folder) else [child for child in subfolders(folder) if holds_scans(child)]
        if len(found) > 1:
            names = ", ".join(child.name for child in found)
            raise DataError(f"data set {name}", found=f"several in it: {names}", todo="pass one of them")
        if found:
            return found[0]
    raise DataError(
        f"data set {name}", found="no class folders", expected=f"{TRAINING}/ and {TESTING}/, or {EXPECTED_FOLDERS}"
    )
