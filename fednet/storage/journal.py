"""A file that only grows, one JSON document a line; a line torn by a crash counts as never written."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from fednet.errors import StorageError
from fednet.storage import disk
from fednet.storage.disk import storage_error


class Journal:
    """Appends durably. What was read when it was opened is in `documents`; thread-safe.

    Raises `StorageError` where the file cannot be read or written, `DiskFull` with the line not written.
    """

    def __init__(self, path: Path) -> None:
        self.documents, self._end = _read(path)
        self._path = path
        self._size = path.stat().st_size if path.exists() else 0  # beyond the end: what a crash tore
        self._lock = threading.Lock()
        self._is_named = False  # durably; a file that is there may have been made by a process that died too soon

    def append(self, document: dict[str, Any]) -> None:
        """Write one more line; it is durable when this returns."""
        line = json.dumps(document, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self._write(line)
            except OSError as exc:
                raise storage_error(self._path, exc) from exc

    def _write(self, line: bytes) -> None:
        disk.make_folder(self._path.parent)
        file = disk.File(self._path, mode=0o600)
        try:
            if os.fstat(file.descriptor).st_size != self._size:
                raise StorageError(f"{self._path}: another process writes to it too; stop one of them")
            file.write(self._end, line)  # over what a crash left of a torn line
            file.truncate(self._end + len(line))
            file.sync()
        finally:
            file.close()
        if not self._is_named:
            disk.sync_folder(self._path.parent)
        self._end, self._is_named = self._end + len(line), True
        self._size = self._end


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the documents in a journal, first to last; raises `StorageError`."""
    if not path.is_file():
        raise StorageError(f"{path}: no such file")
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines' documents and where they end; raises `StorageError` for one that is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read ({exc.strerror})") from exc
    documents: list[dict[str, Any]] = []
    end = 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # after the last line break stands what a crash tore
        try:
            document = json.loads(line)
        except ValueError as exc:
            if number == len(lines) - 1:
                break  # the file grew, the bytes never came
            raise StorageError(f"{path}: line {number} is damaged") from exc
        if not isinstance(document, dict):
            raise StorageError(f"{path}: line {number} is damaged")
        documents.append(document)
        end += len(line) + 1
    return documents, end
