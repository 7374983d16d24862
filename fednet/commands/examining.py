"""Examines scan files one by one with a saved model: answer, doubts about the input, explanation as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.greys import Pixels, square
from data.plausibility import doubts
from data.scan_files import is_scan_file, read_slices
from data.slices import Choice
from fednet.errors import DataError
from fednet.storage.atomic import write_bytes
from models.checkpoint import Checkpoint
from models.prediction import Answer, Predictor
from models.registry import last_convolution


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A scan that was read, and what the model says of it."""

    path: Path
    answer: Answer
    slices: int  # that had a vote
    doubts: tuple[str, ...]  # why this is hardly what the model has learned
    explanation: Path | None  # a picture of its clearest slice
    explained_slice: int | None  # that slice's place in the file, from 0


@dataclass(frozen=True)
class Unreadable:
    """A scan that could not be read, and why."""

    path: Path
    reason: str


class Examiner:
    """One saved model with which scans are examined."""

    def __init__(self, saved: Checkpoint, predictor: Predictor, *, choice: Choice, explain: Path | None) -> None:
        """`explain`: the folder for pictures, or None for none."""
        self._facts, self._predictor = saved.facts, predictor
        self._choice, self._explain = choice, explain
        self._seen = 0

    def examine(self, path: Path) -> Examined | Unreadable:
        """Return what the model says of one file; raises `ModelError`, `StorageError`, never for the file's sake."""
        self._seen += 1
        try:
            looks = [
                _Look(each.number, square(each.image, self._facts.image_size), tuple(doubts(each.image)))
                for each in read_slices(path, self._choice, size=self._facts.image_size, in_colour=True)
            ]
        except DataError as exc:
            return Unreadable(path, str(exc))
        shown = [each for each in looks if each.pixels.min() < each.pixels.max()] or looks  # an empty slice has no vote
        images = torch.from_numpy(np.stack([each.pixels for each in shown])).unsqueeze(1)
        answer = self._predictor.ask(images)
        clearest = shown[answer.clearest]
        picture = None
        if self._explain is not None:
            picture = self._explain / f"{self._seen:04d}-{path.name}.png"  # two folders may hold files of one name
            self._explain_in(picture, images[answer.clearest], answer.label)
        return Examined(
            path=path,
            answer=answer,
            slices=len(shown),
            doubts=(*_shared_doubts(shown), *self._strangeness(answer)),
            explanation=picture,
            explained_slice=None if picture is None else clearest.number,
        )

    def _strangeness(self, answer: Answer) -> list[str]:
        limit = self._predictor.rules.max_energy
        return [f"its energy {answer.energy:.2f} is above {limit:.2f}"] if answer.energy > limit else []

    def _explain_in(self, picture: Path, image: torch.Tensor, label: int) -> None:
        from models.explanation import as_png, heat, overlay

        model = self._predictor.model
        places = heat(model, last_convolution(model, self._facts.model), image.to(self._predictor.device), label=label)
        write_bytes(picture, as_png(overlay(image[0].numpy(), places)), durably=False)


@dataclass(frozen=True)
class _Look:
    """One slice as the model sees it, and what speaks against it."""

    number: int
    pixels: Pixels  # (s, s)
    doubts: tuple[str, ...]


def scan_files(scans: Sequence[Path]) -> Iterator[Path | Unreadable]:
    """Yield the files named, and of folders the scans in them, at any depth, by name."""
    for scan in scans:
        if not scan.is_dir():
            yield scan if scan.exists() else Unreadable(scan, "no such file or folder")
            continue
        found = sorted(path for path in scan.rglob("*") if path.is_file() and is_scan_file(path))
        yield from found
        if not found:
            yield Unreadable(scan, "a folder without a scan in it")


def _shared_doubts(looks: Sequence[_Look]) -> list[str]:
    """Return the doubts about at least half of the slices: the ends of a volume may look odd."""
    counts = Counter(doubt for look in looks for doubt in look.doubts)
    return [doubt for doubt, count in counts.items() if 2 * count >= len(looks)]
