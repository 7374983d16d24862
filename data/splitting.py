"""Splits a data set into hospitals and the server's validation and test sets, so that no image is on two sides.

`plan` decides (pure); `write` carries it out in a folder beside the result and renames it into place.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.classes import CLASSES, FOLDERS
from data.discovery import ScanFile
from data.duplicates import THUMBNAIL, Groups, group_twins
from data.images import BadFile, Pixels, decode, refuse_too_many
from data.partition import partition, stratified_share
from fednet.errors import DataError
from fednet.storage.atomic import storage_error, write_json

VALIDATION, TEST = "server_data/validation", "server_data/test"
RESPLIT_TEST = 0.2  # of the pooled images, where the published test set is not used


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """What decides a split: equal settings and files give the same split, byte for byte."""

    clients: int = 5
    scheme: str = "iid"
    alpha: float = 0.5
    seed: int = 0
    validation: float = 0.1
    test_from: str = "published"


@dataclass(frozen=True)
class InspectedFile:
    """A readable scan with what duplicates are found by."""

    scan: ScanFile
    sha256: str
    thumbnail: Pixels


@dataclass(frozen=True)
class Placed:
    """Where one file goes (`side`, such as `client1_data`), or why it goes nowhere."""

    scan: ScanFile
    sha256: str
    side: str | None
    reason: str | None

    @property
    def place(self) -> str | None:
        """Its new path, relative to the split."""
        if self.side is None:
            return None
        return f"{self.side}/{FOLDERS[self.scan.label]}/{self.scan.name.replace('/', '-')}"


@dataclass(frozen=True)
class SplitPlan:
    """A whole split, decided but not written."""

    settings: SplitSettings
    placed: tuple[Placed, ...]
    skipped: tuple[BadFile, ...]
    groups: Groups

    def sides(self) -> list[str]:
        """Return all sides: the clients in order, then the server's two sets."""
        clients = [f"client{number}_data" for number in range(1, self.settings.clients + 1)]
        return [*clients, VALIDATION, TEST]

    def counts(self) -> dict[str, list[int]]:
        """Return for every side how many images of each class it has."""
        found = Counter((each.side, each.scan.label) for each in self.placed)
        return {side: [found[side, label] for label in range(len(CLASSES))] for side in self.sides()}

    def reasons(self) -> dict[str, int]:
        """Return how many files were left out, by reason."""
        return dict(Counter(each.reason.split(":")[0] for each in self.placed if each.reason))


def inspect(files: Sequence[ScanFile], *, max_bad_fraction: float) -> tuple[list[InspectedFile], tuple[BadFile, ...]]:
    """Read every file once; return the readable ones and the broken. Raises `DataError` when too many are broken."""
    if not files:
        raise DataError("data set", found="no image in it")
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(_inspect, files))
    bad = tuple(each for each in results if isinstance(each, BadFile))
    refuse_too_many(bad, len(files), max_bad_fraction)
    return [each for each in results if isinstance(each, InspectedFile)], bad


def plan(files: Sequence[InspectedFile], skipped: tuple[BadFile, ...], settings: SplitSettings) -> SplitPlan:
    """Decide where every file goes. Raises `DataError` when the settings and the files do not fit together."""
    groups = group_twins([each.sha256 for each in files], [each.thumbnail for each in files])
    sides: dict[int, str] = {}
    reasons = _left_out(files, groups, settings)
    rng = np.random.default_rng(settings.seed)
    pool = [index for index in range(len(files)) if index not in reasons]
    if settings.test_from == "published":
        test = [index for index in pool if files[index].scan.is_testing]
        if not test:
            raise DataError(
                "published test set", found="no Testing/ folder with images", todo="use --test-from resplit"
            )
    else:
        labels = [files[index].scan.label for index in pool]
        test = [pool[place] for place in stratified_share(labels, RESPLIT_TEST, rng)]
    sides |= dict.fromkeys(test, TEST)
    rest = [index for index in pool if index not in sides]
    held_out = stratified_share([files[index].scan.label for index in rest], settings.validation, rng)
    sides |= {rest[place]: VALIDATION for place in held_out}
    rest = [index for index in rest if index not in sides]
    labels = [files[index].scan.label for index in rest]
    shares = partition(labels, settings.clients, scheme=settings.scheme, alpha=settings.alpha, rng=rng)
    for number, share in enumerate(shares, start=1):
        sides |= {rest[place]: f"client{number}_data" for place in share}
    placed = tuple(
        Placed(each.scan, each.sha256, sides.get(index), reasons.get(index)) for index, each in enumerate(files)
    )
    return SplitPlan(settings, placed, skipped, groups)


def write(split: SplitPlan, out: Path, *, link: bool, force: bool) -> None:
    """Put every file in its place under `out` and write `split.json`; nothing is left half-written.

    Raises `DataError` when a split is there and `force` is not given, `DiskFull` when there is no room.
    """
    targets = [*dict.fromkeys(side.split("/")[0] for side in split.sides()), "split.json"]
    existing = [*(each.name for each in out.glob("client*_data")), "server_data", "split.json"]
    present = sorted(name for name in existing if (out / name).exists())
    if present and not force:
        raise DataError(
            f"{out / present[0]}", found="a split is there already", todo="choose another --out, or --force"
        )
    building = out / f".split-{secrets.token_hex(4)}"
    try:
        for side in split.sides():
            for folder in FOLDERS:
                (building / side / folder).mkdir(parents=True, exist_ok=True)
        for each in split.placed:
            if each.place is not None:
                _put(each.scan.path, building / each.place, link=link)
        write_json(building / "split.json", document(split))
        for name in present:
            _remove(out / name)
        for name in targets:
            (building / name).rename(out / name)
    except OSError as exc:
        raise storage_error(out, exc) from exc
    finally:
        shutil.rmtree(building, ignore_errors=True)


def document(split: SplitPlan) -> dict[str, Any]:
    """Return what `split.json` records; nothing in it depends on this machine or this moment."""
    entries = [
        {
            "file": each.scan.name,
            "sha256": each.sha256,
            "class": CLASSES[each.scan.label],
            "place": each.place,
            "left_out": each.reason,
        }
        for each in split.placed
    ]
    return {
        "arguments": asdict(split.settings),
        "classes": list(CLASSES),
        "sites": split.counts(),
        "left_out": split.reasons(),
        "exact_duplicate_pairs": split.groups.exact_pairs,
        "near_duplicate_pairs": split.groups.near_pairs,
        "unreadable": [bad.path.name for bad in split.skipped],
        "files": sorted(entries, key=lambda entry: str(entry["file"])),
    }


def _inspect(scan: ScanFile) -> InspectedFile | BadFile:
    thumbnail = decode(scan.path, THUMBNAIL)
    if isinstance(thumbnail, BadFile):
        return thumbnail
    return InspectedFile(scan, hashlib.sha256(scan.path.read_bytes()).hexdigest(), thumbnail)


def _left_out(files: Sequence[InspectedFile], groups: Groups, settings: SplitSettings) -> dict[int, str]:
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups.of.tolist()):
        members.setdefault(group, []).append(index)
    reasons: dict[int, str] = {}
    for group in members.values():
        testing = [i for i in group if files[i].scan.is_testing and settings.test_from == "published"]
        training = [i for i in group if i not in testing]
        labels = {files[i].scan.label for i in group}
        if testing:
            reasons |= dict.fromkeys(training, f"twin in the test set: {files[testing[0]].scan.name}")
        elif len(labels) > 1:
            reasons |= {i: f"twins with different classes: {_twin_of(i, group, files)}" for i in training}
        else:
            reasons |= dict.fromkeys(training[1:], f"twin in the training set: {files[training[0]].scan.name}")
    return reasons


def _twin_of(index: int, group: Sequence[int], files: Sequence[InspectedFile]) -> str:
    return next(files[i].scan.name for i in group if files[i].scan.label != files[index].scan.label)


def _put(source: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system, or one without hard links: copied instead
    shutil.copyfile(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
