"""Pictures: a split's class mix, a grid's accuracies, rebuilt scans; drawn with matplotlib, without a screen."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from fednet.storage.atomic import write_bytes

if TYPE_CHECKING:
    import torch

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe-Ito: safe for colour-blind


def draw_class_mix(path: Path, counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> None:
    """Draw one stacked bar for each side, by class, with its number of images."""
    figure = Figure(figsize=(9, 1.2 + 0.42 * len(counts)), layout="constrained")
    axes = figure.add_subplot()
    left = [0] * len(counts)
    for index, name in enumerate(classes):
        values = [row[index] for row in counts.values()]
        axes.barh(list(counts), values, left=left, color=_COLOURS[index % len(_COLOURS)], label=name.replace("_", " "))
        left = [a + b for a, b in zip(left, values, strict=True)]
    for row, total in enumerate(left):
        axes.text(total, row, f" {total}", va="center", fontsize=9)
    axes.set_ylim(len(counts) - 0.4, -0.6)
    axes.set_xlabel("images")
    axes.set_title("Class mix of every site")
    axes.margins(x=0.08)
    figure.legend(frameon=False, ncols=len(classes), loc="outside lower center")
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def draw_grid(
    path: Path,
    values: Mapping[tuple[str, str], float],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
) -> None:
    """Draw a table of shares (0 to 1) as colours with their numbers; a place without a value stays empty."""
    figure = Figure(figsize=(2.6 + 0.95 * len(columns), 1.6 + 0.42 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    matrix = [[values.get((row, column), float("nan")) for column in columns] for row in rows]
    axes.imshow(matrix, vmin=0.0, vmax=1.0, cmap="cividis", aspect="auto")
    for y, line in enumerate(matrix):
        for x, value in enumerate(line):
            if not math.isnan(value):
                colour = "white" if value < 0.55 else "black"
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("attack")
    axes.set_ylabel("rule")
    axes.set_title(title)
    _save(figure, path)


def draw_rebuilt(path: Path, rows: Sequence[Mapping[str, tuple[torch.Tensor, str]]]) -> None:
    """Draw a row for each scan, a column for each name, with a line below it; images  # (1, s, s), grey of 0 to 1."""
    columns = list(rows[0])
    figure = Figure(figsize=(2.0 * len(columns), 2.15 * len(rows) + 0.2), layout="constrained")
    places = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, line in zip(rows, places, strict=True):
        for (name, (image, text)), axes in zip(row.items(), line, strict=True):
            axes.imshow(image[0].numpy(), vmin=0.0, vmax=1.0, cmap="gray", interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(text, fontsize=8)
            if row is rows[0]:
                axes.set_title(name, fontsize=9)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    write_bytes(path, content.getbuffer())
