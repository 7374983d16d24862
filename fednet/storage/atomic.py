"""The one way FedNet replaces a file: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path
from typing import Any

from fednet.storage import disk
from fednet.storage.disk import storage_error

_TEMPORARY = ".tmp"


def write_bytes(path: Path, content: bytes | memoryview, *, mode: int = 0o644, durably: bool = True) -> None:
    """Replace `path` by `content`: whoever reads it, after a crash too, finds the old or the new.

    When this returns the new content is durable under its name. Not `durably`: readers are served as well, but a crash
    may leave anything; for files that are of no use after one. Raises `DiskFull` or `StorageError`; `path` then still
    holds what it held before, unless it is the folder's fsync that failed. Missing folders are made.
    """
    temporary = _temporary(path)
    try:
        disk.make_folder(path.parent)
        file = disk.File(temporary, mode=mode, exclusive=True)
        try:
            with contextlib.closing(file):
                file.write(0, content)
                if durably:
                    file.sync()
            disk.rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if durably:
            disk.sync_folder(path.parent)
    except OSError as exc:
        raise storage_error(path, exc) from exc


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace `path` by `text` in UTF-8, atomically and durably."""
    write_bytes(path, text.encode(), mode=mode)


def write_json(path: Path, document: Any, *, durably: bool = True) -> None:
    """Replace `path` by an indented JSON document, atomically."""
    write_bytes(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode(), durably=durably)


def publish(source: Path, target: Path) -> None:
    """Replace `target` by the content of the durable file `source`: a hard link where the file system has them."""
    temporary = _temporary(target)
    try:
        try:
            disk.link(source, temporary)  # the same bytes twice would cost a second fsync of the whole file
        except OSError:
            write_bytes(target, source.read_bytes())
            return
        disk.rename(temporary, target)
        disk.unlink(temporary)  # a rename between two names of one file does nothing, says POSIX
        disk.sync_folder(target.parent)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        raise storage_error(target, exc) from exc


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")


def sweep_temporary(folder: Path, name: str = "") -> None:
    """Remove what processes that died left in `folder` (not beneath it), or left of its file `name`.

    Nobody may be writing there.
    """
    for path in folder.glob(f".{name}*{_TEMPORARY}"):
        disk.unlink(path)
