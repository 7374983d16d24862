"""Event files for TensorBoard: a run's figures by round, written in a thread, and never a reason for a run to fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fednet.reporting.reporter import NullReporter

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

_OURS = "events.out.tfevents.*"
_FIGURES = ("accuracy", "macro_f1", "loss")
Committed = tuple[Mapping[str, Any], float]
"""(a round's document, when it was committed in seconds since 1970)."""


class EventFiles(NullReporter):
    """Writes each committed round into a folder of its own; imports TensorBoard only then."""

    def __init__(self, folder: Path, *, earlier: Iterable[Committed] = ()) -> None:
        """`earlier`: rounds that were committed before, and when. They are written anew, so that none is there twice.

        A process that died may have written any of them, or none.
        """
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._has_failed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tensorboard")
        without_distances = [({**each, "aggregation": None}, at_s) for each, at_s in earlier]  # the most of a record
        if without_distances:
            self._thread.submit(self._write, without_distances)

    def round_committed(self, document: dict[str, Any]) -> None:
        """Write a round."""
        self._thread.submit(self._write, [(document, time.time())])

    def close(self) -> None:
        """Wait until all is written."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _write(self, rounds: Iterable[Committed]) -> None:
        if self._has_failed:
            return
        try:
            writer = self._opened()
            for document, at_s in rounds:
                for tag, value in scalars_of(document).items():
                    writer.add_scalar(tag, value, document["round"], walltime=at_s)
            writer.flush()
        except Exception as exc:  # whatever it is: curves are not worth a round
            self._fail(exc)

    def _opened(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            for path in self._folder.glob(_OURS):
                path.unlink()
            self._writer = SummaryWriter(str(self._folder))
        return self._writer

    def _close(self) -> None:
        if self._writer is None or self._has_failed:
            return
        try:
            self._writer.close()
        except Exception as exc:  # likewise
            self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        self._has_failed = True
        log.warning("no more TensorBoard files are written to %s: %s; the run goes on", self._folder, exc)


def scalars_of(document: Mapping[str, Any]) -> dict[str, float]:
    """Return what is drawn of a committed round, by its tag: metrics, recall by class, verdicts, seconds by phase."""
    return dict(_scalars(document))


def _scalars(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for part in ("test", "validation"):
        found = document.get(part) or {}
        yield from ((f"{part}/{name}", found[name]) for name in _FIGURES if name in found)
    for name, scores in ((document.get("test") or {}).get("per_class") or {}).items():
        yield f"recall/{name}", scores["recall"]
    selected = sum(update["selected"] for update in document["updates"])
    yield "updates/selected", selected
    yield "updates/rejected", len(document["updates"]) - selected
    yield "updates/absent", len(document.get("absent", ()))
    yield from ((f"seconds/{name}", value) for name, value in document.get("seconds", {}).items())
