"""The picture of an evaluation: confusion, ROC curves, reliability, and each class's recall; four panels a model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from fednet.reporting.calibration import expected_calibration_error, reliability
from fednet.reporting.intervals import Outputs, wilson
from fednet.reporting.metrics import Metrics
from fednet.storage.atomic import write_bytes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito: safe for colour-blind
_DASHES = ("-", "--", "-.", ":")  # told apart in black and white too
_WIDTH, _HEIGHT = 11.0, 9.4  # inches, of one model
_DARK = 0.6  # share of a row from which its cell needs a white number


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """One model, as it is drawn."""

    title: str
    classes: Sequence[str]
    metrics: Metrics
    outputs: Outputs
    temperature: float | None  # None: it has none


def draw_evaluation(path: Path, portraits: Sequence[Portrait]) -> None:
    """Draw the models below each other as one PNG; raises `StorageError`."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT * len(portraits)), layout="constrained")
    parts = figure.subfigures(len(portraits), 1, hspace=0.04, squeeze=False)
    for part, portrait in zip(parts.flat, portraits, strict=True):
        part.suptitle(portrait.title, fontsize=12)
        ((confusion, curves), (trust, recall)) = part.subplots(2, 2)
        _draw_confusion(confusion, portrait)
        _draw_curves(curves, portrait)
        _draw_reliability(trust, portrait)
        _draw_recall(recall, portrait)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    write_bytes(path, content.getbuffer())


def _draw_confusion(axes: Axes, portrait: Portrait) -> None:
    counts = np.array(portrait.metrics.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, vmin=0.0, vmax=1.0, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        colour = "white" if share > _DARK else "black"
        axes.text(column, row, f"{count}\n{share:.0%}", ha="center", va="center", color=colour, fontsize=10)
    names = _named(portrait.classes)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("what the model says")
    axes.set_ylabel("what it is")
    axes.set_title("A   Confusion: images, and share of the row", loc="left")


def _draw_curves(axes: Axes, portrait: Portrait) -> None:
    chances, labels = portrait.outputs.probabilities.numpy(), portrait.outputs.labels.numpy()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for label, name in enumerate(_named(portrait.classes)):
        auc = list(portrait.metrics.per_class.values())[label].auc
        if auc is None:
            continue
        false, true, _ = roc_curve(labels == label, chances[:, label])
        colour, dashes = _COLOURS[label % len(_COLOURS)], _DASHES[label % len(_DASHES)]
        axes.plot(false, true, label=f"{name}: AUC {auc:.3f}", linewidth=1.8, color=colour, linestyle=dashes)
    axes.set_xlabel("false positives: share of the other classes")
    axes.set_ylabel("true positives: share of the class")
    axes.set_title("B   ROC, each class against the rest", loc="left")
    _make_square(axes)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower right", frameon=False)


def _draw_reliability(axes: Axes, portrait: Portrait) -> None:
    outputs, temperature = portrait.outputs, portrait.temperature
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    shown = [("as the network gives them", outputs.probabilities, _COLOURS[1], "s", "--")]
    if temperature is not None:
        shown.append((f"at temperature {temperature:.2f}", outputs.calibrated, _COLOURS[0], "o", "-"))
    for name, probabilities, colour, marker, dashes in shown:
        found = reliability(probabilities, outputs.labels)
        ece = expected_calibration_error(probabilities, outputs.labels)
        axes.plot(found.confidence, found.accuracy, color=colour, linestyle=dashes, linewidth=1.2)
        sizes = 12 + 240 * np.array(found.images) / len(outputs.labels)
        axes.scatter(
            found.confidence,
            found.accuracy,
            s=sizes,
            color=colour,
            marker=marker,
            alpha=0.75,
            label=f"{name}: ECE {ece:.3f}",
        )
    axes.set_xlabel("confidence: probability of the answer")
    axes.set_ylabel("accuracy: share of right answers")
    axes.set_title("C   Reliability (size: images in the bin)", loc="left")
    _make_square(axes)
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)  # no corner is sure to be free
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes(np.array([36.0]))


def _draw_recall(axes: Axes, portrait: Portrait) -> None:
    counts = np.array(portrait.metrics.confusion)
    names = []
    for label, name in enumerate(_named(portrait.classes)):
        of = int(counts[label].sum())
        names.append(f"{name}\n({of} images)")
        found = wilson(int(counts[label, label]), of)
        if found is None:
            continue
        ends = [[found.value - found.low], [found.high - found.value]]
        axes.errorbar(
            found.value, label, xerr=ends, fmt="o", color=_COLOURS[label % len(_COLOURS)], capsize=4, markersize=7
        )
        axes.annotate(
            f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})",
            (found.value, label),
            xytext=(0, 9),
            textcoords="offset points",
            ha="right" if found.value > 0.5 else "left",
            fontsize=9,
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("recall, with Wilson's 95 % interval")
    axes.set_title("D   How much of each class is found", loc="left")


def _make_square(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)


def _named(classes: Sequence[str]) -> list[str]:
    return [name.replace("_", " ") for name in classes]
