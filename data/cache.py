"""Decoded scans kept for the next start, by what their files contain; at worst there is no cache, never a failure.

The pixels are patients': the folder has mode 0700, its files 0600, and unless told otherwise it lies in the folder of
the scans, so that whoever moves, copies or deletes these has it in hand as well.
"""

from __future__ import annotations

import functools
import os
import stat
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import PIL
from PIL import features

from data.cache_files import CacheFiles, sizes_in
from data.greys import Pixels
from data.scan_files import SUFFIXES
from fednet.errors import StorageError
from fednet.storage.disk import sha256_of, storage_error

CACHE_FOLDER = ".fednet-cache"
"""Its name in a folder of scans; hidden, so that nothing takes it for a class."""

Notice = Callable[[str], None]
CachePlace = Callable[[Path], Path | None]
"""Where the cache of a folder of scans is, or None where it has none."""

_DECODING = 1  # to be raised with every change of ours that changes a pixel
_PACKAGES = ("numpy", "pydicom", "nibabel")
_PLUGINS = ("pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm", "pyjpegls")
_YOUNG_NS = 2 * 10**9  # FAT keeps times to 2 s: a file younger than that may change again without a new time


@dataclass(frozen=True)
class Known:
    """One file of the folder, as the cache knows it or will."""

    name: str  # relative to the folder
    key: str  # its content, and by what ending it is read
    stamp: list[int]  # size, times and inode, by which it is known again without being read; none while it is young
    row: int | None  # of `ScanCache.rows`; None where it has to be decoded
    is_noted: bool  # nothing of this is new to the cache


class ScanCache:
    """The decoded scans of one folder at one size.

    Opening it and looking into it change nothing. What goes wrong is said once, and then nothing more is kept.
    """

    def __init__(self, place: Path, folder: Path, image_size: int, *, notice: Notice) -> None:
        """`place`: the cache's own folder, which need not be there; `folder`: that of the scans."""
        self.place, self.added, self.nbytes = place, 0, 0  # what was added here, and how large it is since
        self._folder, self._size, self._notice = folder, image_size, notice
        self._label = os.path.relpath(folder.resolve(), place.resolve())  # the same where both are moved together
        self._files = CacheFiles(place, image_size, decoded_by=decoded_by())
        self._is_damaged, self._is_off = False, _is_everybodys(place)
        if self._is_off:
            notice(f"Warning: {place}: others may write to it, so no decoded scans are taken from it or kept in it")
        self._index = self._files.new_index() if self._is_off else self._files.index()
        self._noted = self._index.folders.get(self._label, {})
        self._row_of = {key: row for row, key in enumerate(self._index.keys)}
        self.rows = self._files.rows(self._index)  # (rows, size, size) uint8, as they were when this was opened

    def find(self, path: Path) -> Known:
        """Return what is known of a file in the folder; raises `OSError` where it cannot be read. Thread-safe."""
        name, found = path.relative_to(self._folder).as_posix(), path.stat()
        stamp = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        is_young = time.time_ns() - found.st_ctime_ns < _YOUNG_NS
        noted = self._noted.get(name, [])
        key = self._index.keys[noted[0]] if noted[1:] == stamp else key_of(path)
        row = self._row_of.get(key)
        if row is not None and not self._is_sound(row):
            row, self._is_damaged = None, True
        stamp = [] if is_young else stamp
        return Known(name, key, stamp, row, is_noted=row is not None and noted == [row, *stamp])

    def keep(self, scans: Sequence[tuple[Known, Pixels]]) -> None:
        """Keep the pixels  # each (size, size) of these files for the next start."""
        if not self._is_off and (new := [(known, pixels) for known, pixels in scans if not known.is_noted]):
            self._change(new, forgotten=())

    def keep_only(self, names: Collection[str]) -> None:
        """Forget the other files of the folder, at every size; pixels that no file has any more are removed."""
        for size in [] if self._is_off else sizes_in(self.place):
            same = size == self._size
            cache = self if same else ScanCache(self.place, self._folder, size, notice=self._notice)
            cache.forget_others(names)

    def forget_others(self, names: Collection[str]) -> None:
        """Do the same at this size."""
        index = self._files.index()
        gone = index.folders.get(self._label, {}).keys() - set(names)
        if gone or self._files.has_leftovers(index):
            self._change([], forgotten=gone)

    def _is_sound(self, row: int) -> bool:
        return row < len(self.rows) and zlib.crc32(self.rows[row].numpy().data) == self._index.checksums[row]

    def _change(self, scans: Sequence[tuple[Known, Pixels]], *, forgotten: Collection[str]) -> None:
        try:
            with self._files.locked():
                self._change_alone(scans, forgotten)
        except (OSError, StorageError) as exc:
            self._is_off = True
            reason = storage_error(self.place, exc) if isinstance(exc, OSError) else exc
            self._notice(f"Warning: decoded scans are not kept for the next start: {reason}")

    def _change_alone(self, scans: Sequence[tuple[Known, Pixels]], forgotten: Collection[str]) -> None:
        index = self._files.index()  # of this moment: others may have written since
        names, row_of = index.folders.setdefault(self._label, {}), {key: row for row, key in enumerate(index.keys)}
        for name in forgotten:
            names.pop(name, None)
        stored, added = len(index.keys), []
        for known, pixels in scans:
            if known.key not in row_of:
                row_of[known.key] = len(index.keys)
                index.keys.append(known.key)
                index.checksums.append(zlib.crc32(pixels.data))
                added.append(pixels)
            names[known.name] = [row_of[known.key], *known.stamp]
        is_sound = not (self._is_damaged and index.pixels == self._index.pixels)
        if is_sound and self._files.is_tidy(index, stored):
            self._files.append(index, added, after=stored)
        else:
            index = self._files.rewritten(index, {known.key: pixels for known, pixels in scans})
        self._files.publish(index)
        self.added += len(added)
        self.nbytes = len(index.keys) * self._size**2


def in_the_folder(folder: Path) -> Path:
    """Keep the decoded scans of a folder in the folder itself."""
    return folder / CACHE_FOLDER


def nowhere(folder: Path) -> None:
    """Keep none, and take none."""


def key_of(path: Path) -> str:
    """Return what decides a file's pixels: its bytes, and its ending, by which a decoder is chosen."""
    name = path.name.lower()
    return sha256_of(path) + next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


@functools.cache
def decoded_by() -> str:
    """Return the versions of all that can change a pixel."""
    codecs = [f"{name} {features.version(name)}" for name in ("jpg", "libjpeg_turbo", "jpg_2000")]
    packages = [f"{name} {_version(name)}" for name in (*_PACKAGES, *_PLUGINS)]
    return ", ".join([f"fednet {_DECODING}", f"pillow {PIL.__version__}", *codecs, *packages])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _is_everybodys(place: Path) -> bool:
    """Whether somebody else on this machine could have put pixels into the folder."""
    try:
        found = place.stat()
    except OSError:
        return False
    return bool(found.st_mode & (stat.S_IWOTH | stat.S_IWGRP)) or found.st_uid not in (os.geteuid(), 0)
