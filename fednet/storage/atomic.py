"""The one way FedNet replaces a file: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fednet.errors import DiskFull, StorageError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def storage_error(path: Path, exc: OSError) -> StorageError:
    """Return the error that tells a user what became of `path`: `DiskFull` where room is what was missing."""
    if exc.errno in _NO_ROOM:
        return DiskFull(f"{path}: no room left to write it ({exc.strerror}). Free some disk space and start again")
    return StorageError(f"{path}: cannot be written ({exc.strerror or exc})")


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends, and vanishes when the block raises.

    When the block has ended, the new content is durable under its name. Raises `DiskFull` or `StorageError`;
    `path` then still holds what it held before. Missing folders are made.
    """
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as exc:
        raise storage_error(path, exc) from exc


def write_bytes(path: Path, content: bytes | memoryview, *, mode: int = 0o644) -> None:
    """Replace `path` by `content`, atomically and durably."""
    with replacing(path, mode=mode) as file:
        file.write(content)


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace `path` by `text` in UTF-8, atomically and durably."""
    write_bytes(path, text.encode(), mode=mode)


def write_json(path: Path, document: Any) -> None:
    """Replace `path` by an indented JSON document, atomically and durably."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def publish(source: Path, target: Path) -> None:
    """Replace `target` by the content of the durable file `source`: a hard link where the file system has them."""
    temporary = _temporary(target)
    try:
        try:
            os.link(source, temporary)  # the same bytes twice would cost a second fsync of the whole file
        except OSError:
            write_bytes(target, source.read_bytes())
            return
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise storage_error(target, exc) from exc


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable (a rename is not, until its folder is synced)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
