"""The files of a cache of decoded scans: for every image size a file of grey pixels, and an index of what its rows are.

Rows are only appended to a file of pixels, since other processes may have it mapped: what has to go, goes by a new file
without it. Whoever writes holds `lock`. Nothing waits for the disk: the index has a checksum, and so has every row, so
that what a crash, a full disk or a loss of power leaves is found out, and decoded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from data.greys import Pixels
from fednet.errors import DiskFull, StorageError
from fednet.storage import disk
from fednet.storage.atomic import sweep_temporary, write_bytes

_LOCK_WITHIN_S = 30.0  # what another process writes in one go takes a few
_LEAVES_FREE_BYTES = 2**30  # models and logs must not fail for the sake of what can be decoded again


@dataclass
class Index:
    """What the rows of a file of pixels are, and which files of which folders have them."""

    decoded_by: str
    pixels: str  # that file's name
    keys: list[str] = field(default_factory=list)  # of each row
    checksums: list[int] = field(default_factory=list)  # CRC-32 of each row
    folders: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # folder -> file -> its row, its stamp

    def rows_in_use(self) -> list[int]:
        """Return the rows that some file has, ascending."""
        return sorted({row for names in self.folders.values() for row, *_ in names.values()})


class CacheFiles:
    """What a cache folder holds of one image size."""

    def __init__(self, place: Path, image_size: int, *, decoded_by: str) -> None:
        """`decoded_by`: what was decoded by anything else is as good as not there."""
        self._place, self._size, self._decoded_by = place, image_size, decoded_by
        self._index_path = place / f"{image_size}.index"

    def new_index(self) -> Index:
        """Return the index of a file that is still to be made."""
        return Index(self._decoded_by, f"{self._size}-{secrets.token_hex(4)}.pixels")

    def index(self) -> Index:
        """Return what is there; an index that is damaged, or of other decoders, is none."""
        try:
            checksum, _, content = self._index_path.read_bytes().partition(b"\n")
        except OSError:
            return self.new_index()
        document = json.loads(content) if checksum == _checksum(content) else {}
        return Index(**document) if document.get("decoded_by") == self._decoded_by else self.new_index()

    def rows(self, index: Index) -> torch.Tensor:
        """Return the rows that are there  # (rows, size, size) uint8, mapped; what is written to them stays here."""
        path, size = self._place / index.pixels, self._size
        nothing = torch.empty((0, size, size), dtype=torch.uint8)
        try:
            count = min(len(index.keys), path.stat().st_size // size**2)
            if count == 0:
                return nothing
            mapped = torch.from_file(str(path), shared=False, size=count * size**2, dtype=torch.uint8)
        except (OSError, RuntimeError, ValueError):  # torch has words of its own for what cannot be mapped
            return nothing
        return mapped.view(count, size, size)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Write alone for as long as the block runs; of a process that dies the kernel takes the lock back.

        Raises `OSError` or `StorageError`.
        """
        disk.make_folder(self._place, mode=0o700)
        lock = disk.File(self._place / "lock", mode=0o600)
        try:
            give_up_s = time.monotonic() + _LOCK_WITHIN_S
            while not _is_taken(lock.descriptor):
                if time.monotonic() > give_up_s:
                    raise StorageError(f"{self._place}: another process has been writing to it for {_LOCK_WITHIN_S} s")
                time.sleep(0.02)
            yield
        finally:
            lock.close()

    def is_tidy(self, index: Index, count: int) -> bool:
        """Whether the file holds `count` rows and nothing else, and all of `index` are in use: so it may grow."""
        path = self._place / index.pixels
        nbytes = path.stat().st_size if path.exists() else 0
        return nbytes == count * self._size**2 and len(index.rows_in_use()) == len(index.keys)

    def append(self, index: Index, rows: Sequence[Pixels], *, after: int) -> None:
        """Write rows behind the first `after`; where that fails the file is as long as it was.

        Raises `DiskFull` before anything is written, or `OSError`.
        """
        nbytes = self._size**2
        if not rows:
            return
        self._require_room(len(rows) * nbytes)
        file = disk.File(self._place / index.pixels, mode=0o600)
        try:
            for number, pixels in enumerate(rows, start=after):
                file.write(number * nbytes, pixels.data.cast("B"))
        except BaseException:
            with contextlib.suppress(OSError):
                file.truncate(after * nbytes)
            raise
        finally:
            file.close()

    def rewritten(self, index: Index, at_hand: dict[str, Pixels]) -> Index:
        """Return the index of a new file with those rows of `index` that are in use and sound.

        `at_hand`: pixels by key, where they are known without the old file. Raises as `append`.
        """
        new, stored = self.new_index(), self.rows(index)
        moved: dict[int, int] = {}
        rows: list[Pixels] = []
        for row in index.rows_in_use():
            key, checksum = index.keys[row], index.checksums[row]
            pixels = at_hand.get(key, stored[row].numpy() if row < len(stored) else None)
            if pixels is not None and zlib.crc32(pixels.data) == checksum:
                moved[row] = len(rows)
                rows.append(pixels)
                new.keys.append(key)
                new.checksums.append(checksum)
        for folder, names in index.folders.items():
            new.folders[folder] = {name: [moved[row], *stamp] for name, (row, *stamp) in names.items() if row in moved}
        self.append(new, rows, after=0)
        return new

    def publish(self, index: Index) -> None:
        """Let this be the index from now on, and remove the file before its own, and what dead processes left."""
        content = json.dumps(vars(index)).encode()
        write_bytes(self._index_path, _checksum(content) + b"\n" + content, mode=0o600, durably=False)
        sweep_temporary(self._place)
        for path in self._leftovers(index):
            disk.unlink(path)

    def has_leftovers(self, index: Index) -> bool:
        """Whether there are pixels that the index does not name: of other decoders, or of a process that died."""
        return bool(self._leftovers(index))

    def _leftovers(self, index: Index) -> list[Path]:
        return [path for path in self._place.glob(f"{self._size}-*.pixels") if path.name != index.pixels]

    def _require_room(self, nbytes: int) -> None:
        free = shutil.disk_usage(self._place).free
        if free - nbytes < _LEAVES_FREE_BYTES:
            found = f"{free / 1e6:.0f} MB free, and {_LEAVES_FREE_BYTES / 1e6:.0f} MB are left to others"
            raise DiskFull(f"{self._place}: no room for {nbytes / 1e6:.0f} MB ({found})")


def sizes_in(place: Path) -> list[int]:
    """Return the image sizes of which a cache folder holds something."""
    names = [path.stem for path in place.glob("*.index")]
    return sorted(int(name) for name in names if name.isdecimal())


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _checksum(content: bytes) -> bytes:
    return f"{zlib.crc32(content):08x}".encode()
