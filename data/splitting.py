"""Splits a data set into hospitals and the server's validation and test sets, so that no image is on two sides.

`plan` decides (pure); `write` carries it out in a folder beside the result and renames it into place.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.classes import CLASSES, FOLDERS
from data.discovery import ScanFile
from data.duplicates import THUMBNAIL, Groups, group_twins
from data.greys import Pixels
from data.images import MAX_BAD_FRACTION, BadFile, decode, refuse_too_many
from data.partition import partition, stratified_share
from data.progress import Progress, counted, untold
from fednet.errors import DataError
from fednet.storage.atomic import write_json
from fednet.storage.disk import storage_error

VALIDATION, TEST, ROOT = "server_data/validation", "server_data/test", "server_data/root"
RESPLIT_TEST = 0.2  # of the pooled images, where the published test set is not used
_OURS = re.compile(r"client\d+_data|server_data|split\.json|split\.png")
_ELSEWHERE = "choose another --out"


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """What decides a split: equal settings and files give the same split, byte for byte."""

    clients: int = 5
    scheme: str = "iid"
    alpha: float = 0.5
    seed: int = 0
    validation: float = 0.1
    root: int = 0  # images that the server keeps as its root of trust, about: of every class its share
    test_from: str = "published"
    max_bad_files: float = MAX_BAD_FRACTION
    dataset: str = ""  # what the files are, for the record: a name, never a path of this machine


@dataclass(frozen=True)
class InspectedFile:
    """A readable scan with what duplicates are found by."""

    scan: ScanFile
    sha256: str
    thumbnail: Pixels


@dataclass(frozen=True)
class UnreadableFile:
    """A file that is no image, and why; without a hash where even its bytes cannot be read."""

    scan: ScanFile
    sha256: str | None
    reason: str


@dataclass(frozen=True)
class Placed:
    """Where one file goes (`side`, such as `client1_data`), or why it goes nowhere."""

    scan: ScanFile
    sha256: str | None
    group: int | None  # twins have the same
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
    groups: Groups

    def sides(self) -> list[str]:
        """Return all sides: the clients in order, then the server's sets."""
        return [*_clients(self.settings), VALIDATION, TEST, *([ROOT] if self.settings.root else [])]

    def counts(self) -> dict[str, list[int]]:
        """Return for every side how many images of each class it has."""
        found = Counter((each.side, each.scan.label) for each in self.placed)
        return {side: [found[side, label] for label in range(len(CLASSES))] for side in self.sides()}

    def reasons(self) -> dict[str, int]:
        """Return how many files were left out, by reason."""
        return dict(Counter(each.reason.split(":")[0] for each in self.placed if each.reason))

    def contradictions(self) -> int:
        """Return how many groups of twins carry more than one class."""
        labels = {(each.group, each.scan.label) for each in self.placed if each.group is not None}
        return sum(count > 1 for count in Counter(group for group, _ in labels).values())

    def unlearnable(self) -> list[str]:
        """Return the classes of which no client has an image."""
        return self._missing(_clients(self.settings))

    def untested(self) -> list[str]:
        """Return the classes of which the test set has no image."""
        return self._missing([TEST])

    def _missing(self, sides: Sequence[str]) -> list[str]:
        counts = self.counts()
        return [name for label, name in enumerate(CLASSES) if not any(counts[side][label] for side in sides)]


def inspect(
    files: Sequence[ScanFile], *, max_bad_fraction: float, progress: Progress = untold
) -> tuple[list[InspectedFile], tuple[UnreadableFile, ...]]:
    """Read every file once; return the images and what is none. Raises `DataError` when that is too many, or all."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(counted(pool.map(_inspect, files), len(files), progress))
    unreadable = tuple(each for each in results if isinstance(each, UnreadableFile))
    refuse_too_many([BadFile(Path(each.scan.name), each.reason) for each in unreadable], len(files), max_bad_fraction)
    readable = [each for each in results if isinstance(each, InspectedFile)]
    if not readable:
        raise DataError("data set", found="no readable image")
    return readable, unreadable


def plan(files: Sequence[InspectedFile], unreadable: Sequence[UnreadableFile], settings: SplitSettings) -> SplitPlan:
    """Decide where every file goes. Raises `DataError` when the settings and the files do not fit together."""
    groups = group_twins([each.sha256 for each in files], [each.thumbnail for each in files])
    reasons = _left_out(files, groups, settings)
    sides = _sides(files, [index for index in range(len(files)) if index not in reasons], settings)
    placed = [
        Placed(each.scan, each.sha256, group, sides.get(index), reasons.get(index))
        for index, (each, group) in enumerate(zip(files, groups.of.tolist(), strict=True))
    ]
    placed += [Placed(each.scan, each.sha256, None, None, f"unreadable: {each.reason}") for each in unreadable]
    _refuse_clashes(placed)
    return SplitPlan(settings, tuple(sorted(placed, key=lambda each: each.scan.name)), groups)


def _clients(settings: SplitSettings) -> list[str]:
    return [f"client{number}_data" for number in range(1, settings.clients + 1)]


def _sides(files: Sequence[InspectedFile], pool: Sequence[int], settings: SplitSettings) -> dict[int, str]:
    """Return the side of every file of `pool` (indices): the test set's first, validation's, root's, the clients'."""
    rng = np.random.default_rng(settings.seed)

    def label(index: int) -> int:
        return files[index].scan.label

    if settings.test_from == "published":
        test = [index for index in pool if files[index].scan.is_testing]
    else:
        test = [pool[place] for place in stratified_share([*map(label, pool)], RESPLIT_TEST, rng)]
    if not test:
        raise DataError(
            f"test set ({settings.test_from})",
            found="no image for it",
            expected="images in Testing/, or with --test-from resplit two different ones of some class",
        )
    sides = dict.fromkeys(test, TEST)
    rest = [index for index in pool if index not in sides]
    held_out = stratified_share([*map(label, rest)], settings.validation, rng)
    sides |= {rest[place]: VALIDATION for place in held_out}
    rest = [index for index in rest if index not in sides]
    if settings.root:
        if settings.root > len(rest) / 2:
            raise DataError(
                "root of trust", found=f"{settings.root} of {len(rest)} images", expected="at most half", todo="--root"
            )
        sides |= {rest[place]: ROOT for place in stratified_share([*map(label, rest)], settings.root / len(rest), rng)}
        rest = [index for index in rest if index not in sides]
    shares = partition([*map(label, rest)], settings.clients, scheme=settings.scheme, alpha=settings.alpha, rng=rng)
    for client, share in zip(_clients(settings), shares, strict=True):
        sides |= {rest[place]: client for place in share}
    return sides


def document(split: SplitPlan) -> dict[str, Any]:
    """Return what `split.json` records; nothing in it depends on this machine or this moment."""
    return {
        "arguments": asdict(split.settings),
        "classes": list(CLASSES),
        "sites": split.counts(),
        "left_out": split.reasons(),
        "exact_duplicate_pairs": split.groups.exact_pairs,
        "near_duplicate_pairs": split.groups.near_pairs,
        "contradicting_groups": split.contradictions(),
        "files": [
            {
                "file": each.scan.name,
                "sha256": each.sha256,
                "class": CLASSES[each.scan.label],
                "group": each.group,
                "place": each.place,
                "left_out": each.reason,
            }
            for each in split.placed
        ],
    }


def write(
    split: SplitPlan,
    out: Path,
    *,
    link: bool,
    force: bool,
    draw: Callable[[Path], None] | None = None,
    progress: Progress = untold,
) -> None:
    """Put every file in its place under `out`, with `split.json` and the `split.png` that `draw` makes.

    All of it appears at once or not at all; what was there before is replaced only then. Raises `DataError` when a
    split is there and `force` is not given or would delete its own source, `StorageError` or `DiskFull`.
    """
    present = _present(out)
    if present and not force:
        raise DataError(f"{out / present[0]}", found="a split is there already", todo=f"{_ELSEWHERE}, or --force")
    _refuse_own_source(split, out, present)
    building = out / f".split-{secrets.token_hex(4)}"
    try:
        _fill(building / "new", split, link=link, progress=progress)
        if draw is not None:
            draw(building / "new" / "split.png")
        _swap(building, out, present)
    except OSError as exc:
        raise storage_error(out, exc) from exc
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _present(out: Path) -> list[str]:
    if not out.is_dir():
        return []
    return sorted(child.name for child in out.iterdir() if _OURS.fullmatch(child.name))


def _refuse_own_source(split: SplitPlan, out: Path, present: Sequence[str]) -> None:
    sources = {each.scan.path.parent.resolve() for each in split.placed}
    for name in present:
        if any(source.is_relative_to((out / name).resolve()) for source in sources):
            raise DataError(f"{out / name}", found="the data set itself, which --force would delete", todo=_ELSEWHERE)


def _fill(folder: Path, split: SplitPlan, *, link: bool, progress: Progress) -> None:
    for side in split.sides():
        for name in FOLDERS:
            (folder / side / name).mkdir(parents=True)
    for each in counted(split.placed, len(split.placed), progress):
        if each.place is not None:
            _put(each.scan.path, folder / each.place, link=link)
    write_json(folder / "split.json", document(split))


def _swap(building: Path, out: Path, present: Sequence[str]) -> None:
    """Rename the old split away and the new one in; a failure in between puts the old one back."""
    old, new = building / "old", building / "new"
    old.mkdir()
    moves = [(out / name, old / name) for name in present]
    moves += [(path, out / path.name) for path in sorted(new.iterdir())]
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            source.rename(target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            target.rename(source)
        raise


def _inspect(scan: ScanFile) -> InspectedFile | UnreadableFile:
    thumbnail = decode(scan.path, THUMBNAIL, from_all_pixels=True)  # fractions of a JPEG hide a tenth of the near twins
    try:
        with scan.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        return UnreadableFile(scan, None, exc.strerror or type(exc).__name__)
    if isinstance(thumbnail, BadFile):
        return UnreadableFile(scan, sha256, thumbnail.reason)
    return InspectedFile(scan, sha256, thumbnail)


def _left_out(files: Sequence[InspectedFile], groups: Groups, settings: SplitSettings) -> dict[int, str]:
    """Return why a file goes nowhere, by index: of every group one image stays, or what is published as test."""
    members: dict[int, list[int]] = {}
    for index, group in enumerate(groups.of.tolist()):
        members.setdefault(group, []).append(index)
    reasons: dict[int, str] = {}
    for twins in members.values():
        testing = [i for i in twins if files[i].scan.is_testing and settings.test_from == "published"]
        training = [i for i in twins if i not in testing]
        if testing:
            reasons |= dict.fromkeys(training, f"twin in the test set: {files[testing[0]].scan.name}")
        elif len({files[i].scan.label for i in twins}) > 1:
            reasons |= {i: f"twins with different classes: {_twin_of(i, twins, files)}" for i in twins}
        else:
            reasons |= dict.fromkeys(twins[1:], f"twin of an image that is kept: {files[twins[0]].scan.name}")
    return reasons


def _twin_of(index: int, group: Sequence[int], files: Sequence[InspectedFile]) -> str:
    return next(files[i].scan.name for i in group if files[i].scan.label != files[index].scan.label)


def _refuse_clashes(placed: Sequence[Placed]) -> None:
    """Raise `DataError` when two files would get one name, also where a file system ignores case."""
    names: dict[str, str] = {}
    for each in placed:
        if each.place is not None:
            other = names.setdefault(each.place.casefold(), each.scan.name)
            if other != each.scan.name:
                raise DataError(f"{each.scan.name} and {other}", found=f"both become {each.place}", todo="rename one")


def _put(source: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system, or one without hard links: copied instead
    shutil.copyfile(source, target)
