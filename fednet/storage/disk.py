"""The few operations that change files, each in one place, so that tests can record, fail and stop them there.

Nothing here retries. An fsync that fails is a `SyncFailed`: the kernel may have dropped what it could not write, and
the next fsync would report success (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fednet.errors import DiskFull, StorageError, SyncFailed
from fednet.failpoints import reached

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Kind(enum.Enum):
    """What is done to files; a database commit counts as one operation, which lasts once it has returned."""

    CREATE = "create"
    ALLOCATE = "allocate"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    RENAME = "rename"
    LINK = "link"
    UNLINK = "unlink"
    MAKE_FOLDER = "make-folder"
    REMOVE_FOLDER = "remove-folder"
    SYNC_FOLDER = "sync-folder"
    COMMIT = "commit"
    COMMITTED = "committed"


@dataclass(frozen=True)
class Operation:
    """One of them, about to be done (a `COMMITTED` has been)."""

    kind: Kind
    path: Path
    target: Path | None = None  # of a rename or link
    offset: int = 0
    data: memoryview | bytes = b""


Watcher = Callable[[Operation], None]
"""Sees each operation before it is done; what it raises is raised in its place."""

_watchers: list[Watcher] = []
_named: set[Path] = set()
"""Folders whose names this process has made durable."""


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Show `watcher` every operation of this process for as long as the block lasts."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def note(operation: Operation) -> None:
    """Show the watchers an operation that is done elsewhere (SQLite's commits)."""
    reached(f"disk.{operation.kind.value}")
    for watcher in _watchers:
        watcher(operation)


class File:
    """A file open for writing."""

    def __init__(self, path: Path, *, mode: int, exclusive: bool = False) -> None:
        """Create `path` (whose folder is there), or open it where it exists and may."""
        note(Operation(Kind.CREATE, path))
        self.path = path
        self.descriptor = os.open(path, os.O_CREAT | os.O_RDWR | (os.O_EXCL if exclusive else 0), mode)

    def allocate(self, nbytes: int) -> None:
        """Take the room for `nbytes` bytes now."""
        note(Operation(Kind.ALLOCATE, self.path, offset=nbytes))
        os.posix_fallocate(self.descriptor, 0, nbytes)

    def write(self, offset: int, data: memoryview | bytes) -> None:
        """Write all of `data` at its place."""
        note(Operation(Kind.WRITE, self.path, offset=offset, data=data))
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self.descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def truncate(self, nbytes: int) -> None:
        """Cut the file to `nbytes` bytes."""
        note(Operation(Kind.TRUNCATE, self.path, offset=nbytes))
        os.ftruncate(self.descriptor, nbytes)

    def sync(self) -> None:
        """Make the content durable; its name lasts from the next `sync_folder` on."""
        _fsync(self.descriptor, Operation(Kind.SYNC, self.path))

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def storage_error(path: Path, exc: OSError) -> StorageError:
    """Return the error that tells a user what became of `path`: `DiskFull` where room is what was missing."""
    if exc.errno in NO_ROOM:
        return DiskFull(f"{path}: no room left to write it ({exc.strerror}). Free some disk space and start again")
    return StorageError(f"{path}: cannot be written ({exc.strerror or exc})")


def rename(path: Path, target: Path) -> None:
    """Give a file another name, replacing what has it."""
    note(Operation(Kind.RENAME, path, target))
    path.replace(target)


def link(path: Path, target: Path) -> None:
    """Give a file a second name."""
    note(Operation(Kind.LINK, path, target))
    os.link(path, target)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hex; raises the system's own `OSError`: callers say whose file it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unlink(path: Path) -> None:
    """Remove a name; one that is gone already is no error. Raises `StorageError`."""
    try:
        note(Operation(Kind.UNLINK, path))
        path.unlink(missing_ok=True)
    except OSError as exc:
        raise storage_error(path, exc) from exc


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it that are missing; its name is durable when this returns.

    `mode` is for a folder that is made here, less the umask; those above it get what is usual.

    One that is there may have been made by a process that died before it was durable, or by a thread that has not come
    so far: so its parent is synced once by each process.
    """
    is_there = folder.is_dir()
    if is_there and folder in _named:
        return
    if not is_there:
        make_folder(folder.parent)
        note(Operation(Kind.MAKE_FOLDER, folder))
        folder.mkdir(mode=mode, exist_ok=True)
    try:
        sync_folder(folder.parent)
    except PermissionError:  # a parent that may not be read, such as /home
        if not is_there:
            raise
    _named.add(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it; one that is gone already is no error. Raises `StorageError`."""
    _named.discard(folder)
    try:
        note(Operation(Kind.REMOVE_FOLDER, folder))
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
    except OSError as exc:
        raise storage_error(folder, exc) from exc


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (a rename is not, until its folder is synced)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _fsync(descriptor, Operation(Kind.SYNC_FOLDER, folder))
    finally:
        os.close(descriptor)


def _fsync(descriptor: int, operation: Operation) -> None:
    try:
        note(operation)
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno in NO_ROOM:
            raise
        raise SyncFailed(
            f"{operation.path}: the disk did not keep what was written to it ({exc.strerror}). This process stops: "
            f"check the disk before you start it again"
        ) from exc
