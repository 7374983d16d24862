"""Synthetic head slices for demo and tests: no patient's, reproducible from a seed, and not too easy.

A slice is a skull around a textured brain with ventricles, at a random place, size, tilt and brightness. A glioma is
an irregular, faint mass inside the brain; a meningioma a rounder, brighter one at its edge; a pituitary tumour a small
one low in the middle. Contrast overlaps with texture and noise, so no threshold tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.classes import CLASSES, FOLDERS
from data.progress import Progress, counted, untold
from fednet.storage.disk import storage_error

Pixels = npt.NDArray[np.uint8]
_Field = npt.NDArray[np.float32]


def phantom(label: int, rng: np.random.Generator, size: int) -> Pixels:
    """Return one slice of the class `label`  # (size, size) uint8."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    tilt = rng.normal(0, 0.12)
    x, y = x - rng.normal(0, 0.04), y - rng.normal(0, 0.04)
    x, y = x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)
    width, height = rng.uniform(0.58, 0.72), rng.uniform(0.72, 0.86)
    radius = np.hypot(x / width, y / height)
    brain = _soft(1.0 - radius, 0.03)
    skull = _soft(0.07 - np.abs(radius - 1.08), 0.02)
    tissue = 0.40 + 0.05 * _texture(rng, size, 6) + 0.03 * _texture(rng, size, 16)
    image = brain * tissue + skull * rng.uniform(0.6, 0.9)
    image -= brain * _ventricles(x, y, rng) * 0.22
    image += brain * _lesion(label, x, y, width, height, rng, size)
    image *= rng.uniform(0.8, 1.15)
    image += rng.normal(0, rng.uniform(0.02, 0.05), image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def phantom_set(count: int, *, seed: int, size: int) -> list[tuple[Pixels, int]]:
    """Return `count` slices with their labels, classes in turn."""
    return list(_phantoms(count, seed=seed, size=size))


def _phantoms(count: int, *, seed: int, size: int) -> Iterator[tuple[Pixels, int]]:
    rng = np.random.default_rng(seed)
    for index in range(count):
        label = index % len(CLASSES)
        yield phantom(label, rng, size), label


def phantoms_named(count: int, size: int) -> str:
    """Return how a split's record names so many of this size."""
    return f"{count} phantoms of {size} pixels"


def write_phantoms(
    folder: Path, *, training: int, testing: int, seed: int, size: int, progress: Progress = untold
) -> None:
    """Write slices in the layout of the public data set: `Training/` and `Testing/`, one folder per class."""
    made = (
        (folder / part / FOLDERS[label] / f"phantom{index:05d}.png", pixels)
        for part, count, part_seed in (("Training", training, seed), ("Testing", testing, seed + 1_000_003))
        for index, (pixels, label) in enumerate(_phantoms(count, seed=part_seed, size=size))
    )
    for path, pixels in counted(made, training + testing, progress):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path, compress_level=1)
        except OSError as exc:
            raise storage_error(path, exc) from exc


def _lesion(
    label: int, x: _Field, y: _Field, width: float, height: float, rng: np.random.Generator, size: int
) -> _Field:
    angle = rng.uniform(0, 2 * np.pi)
    match CLASSES[label]:
        case "glioma":
            place, extent, strength = rng.uniform(0.25, 0.55), rng.uniform(0.16, 0.28), rng.uniform(0.16, 0.32)
            ragged, softness = 0.35, 0.10
        case "meningioma":
            place, extent, strength = rng.uniform(0.78, 0.92), rng.uniform(0.13, 0.23), rng.uniform(0.24, 0.46)
            ragged, softness = 0.08, 0.03
        case "pituitary":
            place, extent, strength = rng.uniform(0.28, 0.45), rng.uniform(0.09, 0.14), rng.uniform(0.24, 0.46)
            angle, ragged, softness = np.pi / 2 + rng.normal(0, 0.12), 0.10, 0.04
        case _:
            return np.zeros_like(x)
    dx, dy = x - place * width * np.cos(angle), y - place * height * np.sin(angle)
    shape = extent * (1 + ragged * _texture(rng, size, 8)) - np.hypot(dx, dy * rng.uniform(0.8, 1.25))
    return np.asarray(strength * _soft(shape, softness), dtype=np.float32)


def _ventricles(x: _Field, y: _Field, rng: np.random.Generator) -> _Field:
    apart, length = rng.uniform(0.09, 0.14), rng.uniform(0.18, 0.30)
    shapes = [_soft(1 - np.hypot((x - side * apart) / 0.07, (y + 0.05) / length), 0.3) for side in (-1, 1)]
    return np.asarray(np.maximum(*shapes), dtype=np.float32)


def _texture(rng: np.random.Generator, size: int, cells: int) -> _Field:
    coarse = Image.fromarray(rng.normal(0, 1, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)


def _soft(distance: _Field, softness: float) -> _Field:
    return np.asarray(np.clip(distance / softness + 0.5, 0, 1), dtype=np.float32)
