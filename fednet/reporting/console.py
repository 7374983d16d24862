"""The terminal: live with rich where there is one, plain lines where there is none."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fednet.protocol.messages import RoundClosed
from fednet.reporting.reporter import Progressing, WorkerView

_PLAIN_STATUS_EVERY_S = 15.0
_MOST_SITES = 8  # in one line
_COLUMNS = ("round", "accuracy", "macro F1", "selected", "rejected", "train", "transfer", "aggregate", "evaluate")


def round_cells(document: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a round's table row; seconds with their unit."""
    test, seconds = document.get("test") or {}, document["seconds"]
    selected = [entry["worker"] for entry in document["updates"] if entry["selected"]]
    rejected = [entry["worker"] for entry in document["updates"] if not entry["selected"]]
    return (
        str(document["round"]),
        f"{test['accuracy']:.3f}" if test else "-",
        f"{test['macro_f1']:.3f}" if test else "-",
        ", ".join(selected) or "nobody",
        ", ".join(rejected) or "-",
        *(f"{seconds[name]:.1f} s" for name in ("train", "transfer", "aggregate", "evaluate")),
    )


def rejections(document: dict[str, Any]) -> list[str]:
    """Return one line for each rejected worker."""
    return [f"{entry['worker']} {entry['reason']}" for entry in document["updates"] if not entry["selected"]]


def declines(document: dict[str, Any]) -> list[str]:
    """Return one line for each worker that does not count in this round: its hospital does not agree, or is revoked."""
    return [
        f"{worker} {what}: {reason}"
        for what in ("declined", "revoked")
        for worker, reason in document.get(what, {}).items()
    ]


def sites_line(document: dict[str, Any]) -> str | None:
    """Return what sites say of the model that the round began with, the lowest first; None where none shares."""
    sites = document.get("site_evaluation")
    if not sites:
        return None
    told = sorted(sites, key=lambda worker: sites[worker]["accuracy"])
    texts = [f"{worker} {sites[worker]['accuracy']:.2f} of {sites[worker]['images']}" for worker in told[:_MOST_SITES]]
    more = [f"and {len(told) - _MOST_SITES} more"] if len(told) > _MOST_SITES else []
    return f"sites on round {document['round'] - 1}'s model: {', '.join([*texts, *more])}"


def privacy_line(document: dict[str, Any]) -> str | None:
    """Return what client-level differential privacy has spent; None where the run keeps none."""
    told = document.get("client_privacy")
    if not told:
        return None
    lost = told["rounds"] - document["round"]
    more = f", {lost} of them of rounds that were not committed" if lost > 0 else ""
    steps = "1 noised step" if told["rounds"] == 1 else f"{told['rounds']} noised steps"
    return (
        f"client-level privacy spent: epsilon {told['epsilon']:.3g} at delta {told['delta']:g} for {steps}{more}; "
        f"{told['clipped']} of {len(document['updates'])} updates were clipped to {told['clip']:g}"
    )


def rounds_table(documents: list[dict[str, Any]]) -> Table:
    """Return the table of all rounds so far."""
    table = Table()
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("selected", "rejected") else "right")
    for document in documents:
        table.add_row(*(escape(cell) for cell in round_cells(document)))
    return table


class RunConsole:
    """Shows a coordinator's run: one table row a round, and below it every worker's progress."""

    def __init__(self, *, quiet: bool = False, to_stderr: bool = False) -> None:
        self._console = Console(stderr=to_stderr, quiet=quiet, highlight=False)
        self._is_live = self._console.is_terminal and not quiet
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._header_shown = False
        self._last_text, self._last_plain_s = "", 0.0

    def notice(self, text: str) -> None:
        """Print one line that stays."""
        self._console.print(Text(text), soft_wrap=True)

    def status(self, text: str, views: list[WorkerView]) -> None:
        """Redraw the live view, or print a plain line where something changed or 15 s have passed."""
        kind = text.split(":")[0]  # what is waited for; who is awaited follows, and stands in the live table
        if self._is_live:
            self._live.start()  # not before: until there is something to show, the terminal is others' (reading.py)
            self._live.update(Group(Text(kind if views else text), *([_workers_table(views)] if views else [])))
            return
        if kind != self._last_text or time.monotonic() - self._last_plain_s > _PLAIN_STATUS_EVERY_S:
            self._last_text, self._last_plain_s = kind, time.monotonic()
            self.notice(text)

    def round_committed(self, document: dict[str, Any]) -> None:
        """Print the round's row and why anybody was rejected."""
        if self._is_live:
            self._console.print(rounds_table([document]))
        else:
            if not self._header_shown:
                self.notice(" | ".join(_COLUMNS))
                self._header_shown = True
            self.notice(" | ".join(round_cells(document)))
        for line in (*rejections(document), *declines(document)):
            self.notice(f"  {line}")
        if (told := sites_line(document)) is not None:
            self.notice(f"  {told}")
        if (spent := privacy_line(document)) is not None:
            self.notice(f"  {spent}")

    def close(self) -> None:
        """Take the live view away."""
        if self._is_live:
            self._live.stop()


class WorkerConsole:
    """Shows a worker's part: notices, training progress, and what became of each update."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(quiet=quiet, highlight=False)
        self._is_live = self._console.is_terminal and not quiet
        self._last_plain_s = 0.0
        self._last_notice = ""

    def notice(self, text: str) -> None:
        """Print one line, unless it is the one printed last."""
        if text != self._last_notice:
            self._last_notice = text
            self._console.print(Text(text), soft_wrap=True)

    def training(self, round_number: int, progress: Progressing) -> None:
        """Print how far training is: over one line in a terminal, else every 15 s."""
        loss = "" if progress.loss is None else f"loss {progress.loss:.3f}, "
        text = (
            f"round {round_number}: training {progress.fraction:.0%}, {loss}"
            f"{progress.images_per_s:.0f} images/s, about {progress.remaining_s:.0f} s left"
        )
        if self._is_live:
            self._console.print(Text(text.ljust(self._console.width - 1)), end="\r", overflow="crop", no_wrap=True)
        elif time.monotonic() - self._last_plain_s > _PLAIN_STATUS_EVERY_S:
            self._last_plain_s = time.monotonic()
            self.notice(text)

    def round_closed(self, closed: RoundClosed) -> None:
        """Print the verdict and how good the new global model is."""
        found = [f"{name} {value:.3f}" for name, value in closed.metrics.items() if isinstance(value, float)]
        metrics = ", ".join(found) or "not evaluated"
        verdict = closed.reason if closed.verdict != "selected" else f"selected, weight {closed.weight:.2f}"
        self.notice(f"round {closed.round} closed: {verdict}. Global model: {metrics}")


def _workers_table(views: list[WorkerView]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("worker", "samples", "device", "doing", "", "left"):
        table.add_column(name)
    for view in views:
        left = f"{view.remaining_s:.0f} s" if view.remaining_s else ""
        bar = ProgressBar(total=1.0, completed=view.fraction, width=24) if view.fraction else Text("")
        table.add_row(escape(view.name), str(view.samples), escape(view.device), escape(view.activity), bar, left)
    return table
