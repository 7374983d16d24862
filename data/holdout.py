"""Which of a hospital's scans are kept out of training for ever, so that it can judge global models by them."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from PIL import Image

from data.duplicates import THUMBNAIL, group_twins
from data.greys import Pixels, square
from data.images import ScanSet, files_of
from fednet.errors import DataError, TooFewScans
from fednet.storage.disk import sha256_of


def hold_out(folder: Path, scans: ScanSet, *, share: float, worker: str) -> tuple[ScanSet, ScanSet]:
    """Return (scans to train on, scans held out) of `scans`, which `load_folder(folder)` has read.

    Chosen as `held_out` says. Raises `TooFewScans` where the share of every class is less than one scan, `DataError`
    where the folder has changed since.
    """
    digests = _digests(folder, scans)
    thumbnails = [square(Image.fromarray(image), THUMBNAIL) for image in scans.images[:, 0].numpy()]
    held = held_out(digests, thumbnails, scans.labels.tolist(), share=share, worker=worker)
    if not held:
        raise TooFewScans(
            f"--hold-out {share:g} of {len(digests)} scans",
            found="not one scan of any class",
            expected=f"a class of {math.ceil(1 / share)} scans or more, not all of them twins",
            todo="hold out more, or leave the option out",
        )
    rest = sorted(set(range(len(digests))) - set(held))
    return _chosen(scans, rest), replace(_chosen(scans, held), skipped=())


def held_out(
    digests: Sequence[str], thumbnails: Sequence[Pixels], labels: Sequence[int], *, share: float, worker: str
) -> list[int]:
    """Return the indices of the scans that `worker` holds out, ascending: of every class this share, rounded down.

    `digests`: SHA-256 of the files; `thumbnails`: as for `group_twins`. Twins go together. Only the worker's name and
    the files decide, not their names or order, and each scan's turn is its own: where scans are added, few others
    change sides.
    """
    room = {label: math.floor(share * count + 1e-9) for label, count in Counter(labels).items()}  # 0.29 * 100 is 28.99
    groups: dict[int, list[int]] = {}
    for index, group in enumerate(group_twins(digests, thumbnails).of.tolist()):
        groups.setdefault(group, []).append(index)

    def turn(twins: list[int]) -> bytes:
        first = min(digests[index] for index in twins)  # of one file: a large group comes no sooner than a single scan
        return hashlib.sha256(f"hold-out/{worker}/{first}".encode()).digest()

    held: list[int] = []
    for twins in sorted(groups.values(), key=turn):
        wanted = Counter(labels[index] for index in twins)
        if all(count <= room[label] for label, count in wanted.items()):
            held += twins
            room = {label: left - wanted[label] for label, left in room.items()}
    return sorted(held)


def _digests(folder: Path, scans: ScanSet) -> list[str]:
    skipped = {bad.path for bad in scans.skipped}
    paths = [path for path, _ in files_of(folder) if path not in skipped]
    try:
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            digests = list(pool.map(sha256_of, paths))
    except OSError as exc:
        raise DataError(f"data folder {folder}", found=f"a file that cannot be read again ({exc.strerror})") from exc
    if len(digests) != len(scans.labels):
        raise DataError(f"data folder {folder}", found="other files than a moment ago", todo="start again")
    return digests


def _chosen(scans: ScanSet, indices: Sequence[int]) -> ScanSet:
    return replace(scans, images=scans.images[list(indices)], labels=scans.labels[list(indices)])
