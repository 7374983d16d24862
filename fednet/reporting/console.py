"""The coordinator's terminal: live with rich where there is one, plain lines where there is none."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fednet.ranking import best_of
from fednet.reporting.reporter import WorkerView
from fednet.reporting.round_text import COLUMNS, declines, privacy_line, rejections, round_cells, sites_line
from fednet.reporting.terminal import can_redraw, duration, live_view, sparkline

_PLAIN_STATUS_EVERY_S = 15.0
_PLAIN_CHANGE_S = 0.05  # for each worker: of a thousand something changes all the time
_WIDE = 110  # columns of a terminal from which everything is shown
_LAST_ROUNDS = 5  # in the live view
_MOST_WORKERS, _FEWEST_WORKERS = 20, 3  # in the live view, by the height of the terminal
_OTHER_LINES = 8 + _LAST_ROUNDS  # of the live view: headings, curve, blank lines, those that are left out
_MOST_NAMED = 3  # rejected workers in a cell
_PHASES = ("train", "transfer", "aggregate", "evaluate")
_RANKED = ("round", "validation")  # what fednet.ranking asks of a round


@dataclass(frozen=True)
class _ShownRound:
    """What the live view keeps of a round: its record is as large as its distances."""

    number: int
    test: dict[str, float]
    rejected: tuple[str, ...]
    updates: int
    seconds: dict[str, float]
    ranked: dict[str, Any]


class RunConsole:
    """Shows a coordinator's run: curve, last rounds and every worker's progress, or plain lines, one a round."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        to_stderr: bool = False,
        rounds: int = 0,
        earlier: Iterable[dict[str, Any]] = (),
        console: Console | None = None,
    ) -> None:
        """`rounds`: how many the run has (0: not known); `earlier`: those that were committed before.

        `quiet`: warnings alone, on stderr.
        """
        self._console = console or Console(stderr=to_stderr or quiet, highlight=False)
        self._is_quiet = quiet
        self._is_live = can_redraw(self._console) and not quiet
        self._live = live_view(self._console)
        self._planned = rounds
        self._rounds: list[_ShownRound] = []
        self._counted: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        for document in earlier:
            self._take(document)
        self._new_rounds = 0
        self._header_shown = False
        self._last_text, self._last_plain_s = "", float("-inf")

    def notice(self, text: str) -> None:
        """Print one line that stays."""
        is_warning = text.startswith("Warning: ")
        if is_warning or not self._is_quiet:
            self._console.print(Text(text, style="yellow" if is_warning else ""), soft_wrap=True)

    def status(self, text: str, views: list[WorkerView]) -> None:
        """Redraw the live view, or print a plain line where something changed (of many not each time) or after 15 s."""
        kind = text.split(":")[0].removesuffix("; here")  # who is awaited, or here, stands in the live table
        if self._is_live:
            self._live.start()  # not before: until there is something to show, the terminal is others' (reading.py)
            self._live.update(Group(*self._view(kind if views else text, views)))
            return
        pause_s = _PLAIN_CHANGE_S * len(views) if kind != self._last_text else _PLAIN_STATUS_EVERY_S
        if time.monotonic() - self._last_plain_s > min(pause_s, _PLAIN_STATUS_EVERY_S):
            self._last_text, self._last_plain_s = kind, time.monotonic()
            self.notice(text)

    def round_committed(self, document: dict[str, Any]) -> None:
        """Show the round, and print why anybody was rejected."""
        self._take(document)
        self._new_rounds += 1
        before = f"round {document['round']}: "
        if not self._is_live:
            before = "  "
            if not self._header_shown:
                self.notice(" | ".join(COLUMNS))
                self._header_shown = True
            self.notice(" | ".join(round_cells(document)))
        for line in (*rejections(document), *declines(document), sites_line(document), privacy_line(document)):
            if line is not None:
                self.notice(f"{before}{line}")

    def close(self) -> None:
        """Take the live view away; the table of the rounds stays."""
        if not self._is_live:
            return
        self._live.stop()
        if self._new_rounds:
            self._console.print(self._rounds_table(self._rounds[-self._new_rounds :]))
            self._new_rounds = 0

    def _take(self, document: dict[str, Any]) -> None:
        self._rounds.append(_shown(document))
        self._sent.update(entry["worker"] for entry in document["updates"])
        self._counted.update(entry["worker"] for entry in document["updates"] if entry["selected"])

    # The live view

    def _view(self, text: str, views: Sequence[WorkerView]) -> Iterator[RenderableType]:
        yield Text()
        yield self._heading(text, views)
        if self._rounds:
            yield self._curve()
            yield self._rounds_table(self._rounds[-_LAST_ROUNDS:])
        if views:
            yield Text()
            room = max(_FEWEST_WORKERS, min(_MOST_WORKERS, self._console.height - _OTHER_LINES))
            shown = those_that_matter(views, most=room)
            yield self._workers_table(shown)
            if left_out := _left_out(views, shown):
                yield Text(left_out, style="dim", no_wrap=True, overflow="ellipsis")

    def _heading(self, text: str, views: Sequence[WorkerView]) -> Text:
        parts = [text]
        if views:
            here = sum(view.is_connected for view in views)
            parts.append(f"{here} of {len(views)} workers connected" if here < len(views) else f"{here} workers here")
        lately = [each.seconds["round"] for each in self._rounds[-_LAST_ROUNDS:] if "round" in each.seconds]
        if lately and (left := self._planned - len(self._rounds)) > 0:
            parts.append(f"about {duration(left * statistics.median(lately))} left")
        return Text.assemble((parts[0], "bold"), *(f" - {part}" for part in parts[1:]), overflow="ellipsis")

    def _curve(self) -> Text:
        found = [each.test.get("accuracy") for each in self._rounds]
        line = sparkline(found, width=min(40, self._console.width // 3), ascii_only=self._console.options.ascii_only)
        if not line:
            return Text("not evaluated")
        last, best = self._rounds[-1].test, best_of([each.ranked for each in self._rounds])
        first, now = next(value for value in found if value is not None), found[-1]
        known = "-" if now is None else f"{now:.3f}"
        macro = f"  macro F1 {last['macro_f1']:.3f}" if "macro_f1" in last else ""
        return Text.assemble(
            f"accuracy {first:.3f} ",
            (line, "cyan"),
            (f" {known}", "bold"),
            f"{macro}  best: round {best}",
            overflow="ellipsis",
            no_wrap=True,
        )

    def _rounds_table(self, rounds: Sequence[_ShownRound]) -> Table:
        is_wide = self._console.width >= _WIDE
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for name in ("round", "accuracy", "macro F1", "loss", "counted", *(_PHASES if is_wide else ()), "took"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("rejected", overflow="ellipsis", no_wrap=True)
        for each in rounds:
            figures = (f"{each.test[name]:.3f}" if name in each.test else "-" for name in _FIGURES)
            spent = (*_PHASES, "round") if is_wide else ("round",)
            table.add_row(
                str(each.number),
                *figures,
                f"{each.updates - len(each.rejected)} of {each.updates}",
                *(_seconds(each.seconds.get(name)) for name in spent),
                Text(_named(each.rejected), style="red" if each.rejected else "dim"),
            )
        return table

    def _workers_table(self, views: Sequence[WorkerView]) -> Table:
        is_wide = self._console.width >= _WIDE
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("worker", overflow="ellipsis", no_wrap=True, max_width=24)
        table.add_column("doing", overflow="ellipsis", no_wrap=True, min_width=20, max_width=26)  # no line jumps about
        table.add_column("", width=24 if is_wide else 10)
        for name in ("left", "images/s", "loss", "counted", *(("samples", "device") if is_wide else ())):
            table.add_column(name, justify="right", no_wrap=True, min_width=6)
        for view in views:
            table.add_row(*self._worker_cells(view, is_wide=is_wide), style="" if view.is_connected else "red")
        return table

    def _worker_cells(self, view: WorkerView, *, is_wide: bool) -> Iterator[RenderableType]:
        is_training = view.is_connected and view.activity == "training"
        yield escape(view.name)
        yield escape(view.activity)
        yield ProgressBar(total=1.0, completed=view.fraction) if view.fraction and view.is_connected else Text("")
        yield duration(view.remaining_s) if view.remaining_s and view.is_connected else ""
        yield f"{view.images_per_s:.0f}" if is_training else ""
        yield f"{view.loss:.3f}" if is_training and view.loss else ""
        sent = self._sent[view.name]
        yield f"{self._counted[view.name]} of {sent}" if sent else ""
        if is_wide:
            yield str(view.samples)
            yield escape(view.device)


_FIGURES = ("accuracy", "macro_f1", "loss")


def those_that_matter(views: Sequence[WorkerView], *, most: int) -> list[WorkerView]:
    """Return at most so many workers by name: who was lost (half of them, at most), who is at work with most left."""
    if len(views) <= most:
        return list(views)
    lost = [view for view in views if not view.is_connected][: most // 2]
    here = sorted(
        (view for view in views if view.is_connected),
        key=lambda view: (not 0 < view.fraction < 1, -(view.remaining_s or 0.0), view.name),
    )
    return sorted([*lost, *here[: most - len(lost)]], key=lambda view: view.name)


def _left_out(views: Sequence[WorkerView], shown: Sequence[WorkerView]) -> str:
    names = {view.name for view in shown}
    others = Counter(view.activity for view in views if view.name not in names)
    if not others:
        return ""
    doing = ", ".join(f"{count} {activity}" for activity, count in others.most_common(4))
    return f"and {others.total()} more: {doing}"


def _shown(document: dict[str, Any]) -> _ShownRound:
    test = document.get("test") or {}
    return _ShownRound(
        number=document["round"],
        test={name: test[name] for name in _FIGURES if name in test},
        rejected=tuple(entry["worker"] for entry in document["updates"] if not entry["selected"]),
        updates=len(document["updates"]),
        seconds=document["seconds"],
        ranked={name: document[name] for name in _RANKED if name in document},
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s" if value < 10 else duration(value)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}" or "-"
