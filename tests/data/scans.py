"""Folders of tiny scans, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data.classes import FOLDERS


def write_scan(path: Path, seed: int, size: int = 20) -> Path:
    """Write one image of smooth noise that correlates with no other seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6), dtype=np.uint8)
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


def write_folder(folder: Path, per_class: int = 3, *, seed: int = 0) -> Path:
    """Write `per_class` distinct images for every class."""
    for label, name in enumerate(FOLDERS):
        for index in range(per_class):
            write_scan(folder / name / f"scan{index:03d}.png", seed=seed + 1000 * label + index)
    return folder


def write_kaggle(folder: Path, *, training: int = 10, testing: int = 3) -> Path:
    """Write the layout of the public data set."""
    write_folder(folder / "Training", training, seed=0)
    write_folder(folder / "Testing", testing, seed=500_000)
    return folder
