"""The update spool: one preallocated file for each update of a round, written chunk by chunk as it arrives."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch

from fednet.errors import DiskFull, StorageError
from fednet.storage import disk
from fednet.storage.disk import storage_error


class ChunkMemory:
    """Memory for chunks, used again and again: fresh pages for every chunk would cost a tenth of the goodput."""

    def __init__(self, *, keeps: int = 16) -> None:
        self._free: list[bytearray] = []  # appended to in threads, taken from on the event loop: both are atomic
        self._keeps = keeps

    def take(self, nbytes: int) -> memoryview:
        """Return memory of `nbytes` bytes; nobody else has it until it is given back."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = bytearray()
        if len(memory) < nbytes:
            memory = bytearray(nbytes)
        return memoryview(memory)[:nbytes]

    def give_back(self, chunk: memoryview) -> None:
        """Let what `take` returned be used again."""
        if len(self._free) < self._keeps:
            assert isinstance(chunk.obj, bytearray)
            self._free.append(chunk.obj)


class SpoolFile:
    """One update on disk. Written with `pwrite` (a mapping of a full disk would be a SIGBUS), kept as a plain file.

    Raises `DiskFull` or `StorageError` from every method that touches the disk.
    """

    def __init__(self, path: Path, nbytes: int) -> None:
        self.path = path
        self.nbytes = nbytes
        try:
            disk.make_folder(path.parent)
            self._file = disk.File(path, mode=0o600)
            self._is_closed, self._lock = False, threading.Lock()
            try:
                self._file.allocate(nbytes)  # a full disk shows now, not in the middle
            except OSError:
                self.close()
                path.unlink(missing_ok=True)
                raise
        except OSError as exc:
            raise storage_error(path, exc) from exc

    def buffer(self, offset: int, nbytes: int) -> memoryview:
        """Return memory for one chunk; the protocol's window bounds how much of it is in use at a time."""
        return _CHUNKS.take(nbytes)

    def keep(self, offset: int, data: memoryview) -> None:
        """Write one chunk, in memory from `buffer`, at its place; the memory is used again after that."""
        self.write(offset, data)
        _CHUNKS.give_back(data)

    def write(self, offset: int, data: memoryview) -> None:
        """Write any bytes at their place."""
        with self._open() as file:
            file.write(offset, data)

    def sync(self) -> None:
        """Make the whole file durable, and its name."""
        with self._open() as file:
            file.sync()
            disk.sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the descriptor, once a write under way is done; the file stays."""
        with self._lock:
            if not self._is_closed:
                self._file.close()
            self._is_closed = True

    @contextlib.contextmanager
    def _open(self) -> Iterator[disk.File]:
        """Yield the file, which nobody closes meanwhile: its descriptor would be another file's."""
        with self._lock:
            if self._is_closed:
                raise StorageError(f"{self.path}: closed")
            try:
                yield self._file
            except OSError as exc:
                raise storage_error(self.path, exc) from exc


_CHUNKS = ChunkMemory()  # of all updates that are on their way
_MOST_OPEN = 256


class SpoolRows:
    """The parameter deltas of several spooled updates, read by column blocks: `aggregation.rows.Rows`.

    Descriptors stay open while there are few of them: a thousand updates would leave none for connections.
    """

    def __init__(self, paths: Sequence[Path], *, width: int) -> None:
        self._paths = list(paths)
        self.count = len(self._paths)
        self.width = width
        keeps_open = self.count <= _MOST_OPEN
        self._descriptors = [_open(path) for path in self._paths] if keeps_open else []

    def block(self, start: int, stop: int, staging: torch.Tensor) -> torch.Tensor:
        """Read columns start to stop of every update into `staging`  # (count, stop - start) float32, on the CPU."""
        for index, (path, row) in enumerate(zip(self._paths, staging, strict=True)):
            target = row.view(torch.uint8)
            if self._descriptors:
                _read_into(self._descriptors[index], path, target.numpy().data, offset=4 * start)
            else:
                read_spooled(path, target, offset=4 * start)
        return staging

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._descriptors:
            os.close(descriptor)


def spooled(flat: torch.Tensor, folder: Path) -> torch.Tensor:
    """Return `flat`  # (nbytes,) uint8, copied into a file that has no name any more: the system may page it out.

    It lives as long as the tensor. Raises `DiskFull` before anything is written.
    """
    path = folder / f"{secrets.token_hex(8)}.update"
    SpoolFile(path, flat.numel()).close()
    try:
        mapped = torch.from_file(str(path), shared=True, size=flat.numel(), dtype=torch.uint8)
    finally:
        path.unlink()
    return mapped.copy_(flat)


def read_spooled(path: Path, into: torch.Tensor, *, offset: int) -> None:
    """Fill `into`  # (nbytes,) uint8 with the bytes of a spooled update from `offset` on."""
    descriptor = _open(path)
    try:
        _read_into(descriptor, path, into.numpy().data.cast("B"), offset=offset)
    finally:
        os.close(descriptor)


def require_room(folder: Path, nbytes: int, *, purpose: str) -> None:
    """Raise `DiskFull` unless `nbytes` more can be written in `folder`: before work is done, not after."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        found = f"{free / 1e6:.0f} MB free, {purpose} takes {nbytes / 1e6:.0f} MB"
        raise DiskFull(f"{folder}: {found}. Free some disk space, then --resume")


DECODED = ".decoded"
"""Ends the name of an update's flat buffer where it travelled in another form."""


def spool_folder(run: Path, round_number: int) -> Path:
    """Return where a round's updates lie."""
    return run / "spool" / f"round-{round_number:04d}"


def spool_path(run: Path, round_number: int, worker: str) -> Path:
    """Return where a worker's update of a round lies, as it travelled."""
    return spool_folder(run, round_number) / f"{worker}.update"


def keep_only(folder: Path, workers: Collection[str]) -> None:
    """Remove everything from a round's folder but these workers' updates as they travelled; none is no error."""
    names = {f"{worker}.update" for worker in workers}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in names:
            disk.unlink(path)


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, hex; raises `StorageError` where it cannot be read."""
    try:
        return disk.sha256_of(path)
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read ({exc.strerror})") from exc


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as exc:
        raise StorageError(f"{path}: spooled update cannot be read ({exc.strerror})") from exc


def _read_into(descriptor: int, path: Path, target: memoryview, *, offset: int) -> None:
    while target:
        count = os.preadv(descriptor, [target], offset)
        if count == 0:
            raise StorageError(f"{path}: spooled update ends {len(target)} bytes early; remove it and resume the run")
        target, offset = target[count:], offset + count
