"""Slices of a scan file: a picture has one, a volume or a multi-frame file many, of which some are chosen."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from fednet.errors import BadInput, DataError

MAX_SLICES = 4096  # more than any series of a head, and a bound on the time that one file takes


@dataclass(frozen=True)
class Slice:
    """One picture of a scan file."""

    image: Image.Image  # of any mode; grey or colour as the file has it
    number: int  # its place in the file, from 0


@dataclass(frozen=True)
class Choice:
    """Which slices of a file are meant: all of them, the middle one, or those at `numbers` (from 0)."""

    numbers: tuple[int, ...] = ()
    is_all: bool = False

    def of(self, count: int) -> list[int]:
        """Return the slices meant of `count`; raises `DataError` where one is not there, or there are too many."""
        if not 0 < count <= MAX_SLICES:
            raise DataError(f"{count} slices", expected=f"1 to {MAX_SLICES}")
        if self.is_all or count == 1:  # a picture has nothing to choose from
            return list(range(count))
        beyond = [number for number in self.numbers if number >= count]
        if beyond:
            raise DataError(f"no slice {beyond[0]}", expected=f"0 to {count - 1}")
        return list(self.numbers) or [count // 2]


MIDDLE = Choice()
ALL = Choice(is_all=True)


def choice_from(text: str) -> Choice:
    """Return the choice behind `middle`, `all` or `12,40,80`; raises `BadInput`."""
    if text in ("middle", "all"):
        return ALL if text == "all" else MIDDLE
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 6 for word in words):
        raise BadInput(f"--slices {text}", expected="middle, all, or numbers from 0 such as 60,77,90")
    return Choice(tuple(sorted({int(word) for word in words})))
