"""A hospital's own judgement of the global models that it receives, by scans that it never trains on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from fednet.protocol import limits
from fednet.reporting.confusion import (
    FEWEST_TOLD,
    Confusion,
    accuracy,
    images_in,
    macro_f1,
    squared,
    without_small_rows,
)

if TYPE_CHECKING:
    from fednet.reporting.metrics import EvaluationData

_BATCH = 64

NOTHING_TOLD: tuple[int, ...] = ()
"""What leaves a hospital that shares nothing."""


class HeldOut:
    """The scans of one site that global models are judged by, and whether the counts leave it."""

    def __init__(
        self, data: EvaluationData, *, classes: Sequence[str], is_shared: bool, notice: Callable[[str], None]
    ) -> None:
        """`notice` shows a line to this hospital's own people. Of more than 8 classes nothing can be shared."""
        assert not is_shared or len(classes) ** 2 <= limits.MAX_ENTRIES, "the command knows its classes"
        self._data = data
        self._classes = tuple(classes)
        self._is_shared = is_shared
        self._notice = notice

    def judge(self, model: nn.Module, *, round_number: int, should_stop: Callable[[], bool]) -> tuple[int, ...] | None:
        """Judge the model with which a round begins, and say so here; None when stopped.

        Return the counts for the coordinator (classes * classes, row by row), or nothing where none may leave. The
        model is left in evaluation mode.
        """
        began = time.perf_counter()
        confusion = confusion_of(model, self._data, classes=len(self._classes), should_stop=should_stop)
        if confusion is None:
            return None
        self._notice(
            f"round {round_number}: the model it begins with, on {images_in(confusion)} scans held out here: accuracy "
            f"{accuracy(confusion):.3f}, macro F1 {macro_f1(confusion):.3f} ({time.perf_counter() - began:.1f} s)"
        )
        return self._told(confusion) if self._is_shared else NOTHING_TOLD

    def _told(self, confusion: Confusion) -> tuple[int, ...]:
        told, small = without_small_rows(confusion)
        if small:
            names = ", ".join(self._classes[label] for label in small)
            self._notice(f"not told to the coordinator: {names}, fewer than {FEWEST_TOLD} scans held out")
        return tuple(count for row in told for count in row) if images_in(told) else NOTHING_TOLD


def confusion_of(
    model: nn.Module, data: EvaluationData, *, classes: int, should_stop: Callable[[], bool]
) -> list[list[int]] | None:
    """Return the model's confusion matrix on every sample, or None when stopped; it is left in evaluation mode.

    The same as of `fednet.reporting.metrics.evaluate`: outputs that are not finite are an answer of the first class.
    """
    counts = torch.zeros(classes * classes, dtype=torch.int64)
    model.eval()
    with torch.inference_mode():
        for images, labels in data.in_order(batch_size=_BATCH):
            if should_stop():
                return None
            chances = model(images).float().cpu().double().softmax(dim=1)
            answers = chances.nan_to_num(nan=0.0).argmax(dim=1)
            counts += torch.bincount(labels.cpu() * classes + answers, minlength=classes * classes)
    return squared(counts.tolist(), classes=classes)
