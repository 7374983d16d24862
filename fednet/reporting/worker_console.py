"""A worker's terminal: live with rich while something is under way, plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fednet.protocol.messages import RoundClosed
from fednet.reporting.reporter import Progressing, Transfer
from fednet.reporting.seldom import Seldom
from fednet.reporting.terminal import can_redraw, duration, live_view, megabytes, sparkline

_PLAIN_EVERY_S = 15.0
_CURVE = 24  # columns


class WorkerConsole:
    """Shows a worker's part: notices, training and transfers as they go, and what became of each update."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        """`quiet`: warnings alone, on stderr."""
        self._console = console or Console(stderr=quiet, highlight=False)
        self._is_quiet = quiet
        self._is_live = can_redraw(self._console) and not quiet
        self._live: Live | None = None  # a new one each time: a view that comes back would draw over what was printed
        self._plain_training, self._plain_transfer = Seldom(_PLAIN_EVERY_S), Seldom(_PLAIN_EVERY_S)
        self._last_notice = ""
        self._losses: list[float | None] = []  # of the round at hand
        self._shown_round = 0
        self._transfer, self._transfer_began_s = (0, False), 0.0
        self._accuracies: list[float | None] = []
        self._last_verdict = ""

    def notice(self, text: str) -> None:
        """Print one line, unless it is the one printed last; what was under way is over, or shows again in a second."""
        self._print(text, style="yellow" if text.startswith("Warning: ") else "")

    def training(self, round_number: int, progress: Progressing) -> None:
        """Show how far training is: live in a terminal, else a line every 15 s."""
        if round_number != self._shown_round:
            self._shown_round, self._losses = round_number, []
        self._losses.append(progress.loss)
        if self._is_live:
            self._draw(self._training_view(round_number, progress))
        elif self._plain_training.is_due():
            loss = "" if progress.loss is None else f"loss {progress.loss:.3f}, "
            self.notice(
                f"round {round_number}: training {progress.fraction:.0%}, {loss}"
                f"{progress.images_per_s:.0f} images/s, about {progress.remaining_s:.0f} s left"
            )

    def transferring(self, round_number: int, transfer: Transfer) -> None:
        """Show how far model or update have come: live in a terminal, else a line for every 15 s that it takes."""
        now = time.monotonic()
        if self._transfer != (round_number, transfer.is_update):
            self._transfer, self._transfer_began_s = (round_number, transfer.is_update), now
            self._plain_transfer.restart()
        if self._is_live:
            self._draw(self._transfer_view(round_number, transfer, elapsed_s=now - self._transfer_began_s))
        elif self._plain_transfer.is_due():
            self.notice(f"round {round_number}: {transfer.sentence()}")

    def round_closed(self, closed: RoundClosed) -> None:
        """Print the verdict and how good the new global model is."""
        found = [f"{name} {value:.3f}" for name, value in closed.metrics.items() if isinstance(value, float)]
        metrics = ", ".join(found) or "not evaluated"
        verdict = closed.reason if closed.verdict != "selected" else f"selected, weight {closed.weight:.2f}"
        style = "green" if closed.verdict == "selected" else "red"
        self._print(f"round {closed.round} closed: {verdict}. Global model: {metrics}", style=style)
        accuracy = closed.metrics.get("accuracy")
        self._accuracies.append(accuracy if isinstance(accuracy, float) else None)
        self._last_verdict = f"round {closed.round}: {verdict}"

    def close(self) -> None:
        """Take the live view away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _print(self, text: str, *, style: str) -> None:
        self.close()
        if text != self._last_notice:
            self._last_notice = text
            if not self._is_quiet or text.startswith("Warning: "):
                self._console.print(Text(text, style=style), soft_wrap=True)

    # The live view

    def _draw(self, lines: Iterator[RenderableType]) -> None:
        if self._live is None:
            self._live = live_view(self._console)
            self._live.start()
        self._live.update(Group(*lines, *self._so_far()))

    def _training_view(self, round_number: int, progress: Progressing) -> Iterator[RenderableType]:
        yield Text.assemble((f"round {round_number}: training", "bold"), _where(progress), overflow="ellipsis")
        left = f"about {duration(progress.remaining_s)} left"
        yield self._bar(progress.fraction, f"{progress.fraction:.0%}  {left}")
        pace = f"{progress.images_per_s:.0f} images/s"
        if progress.loss is None:
            yield Text(pace)
        else:
            loss = f"loss {progress.loss:.3f} "
            yield Text.assemble(
                loss, (self._line(self._losses), "cyan"), f"  {pace}", overflow="ellipsis", no_wrap=True
            )

    def _transfer_view(self, round_number: int, transfer: Transfer, *, elapsed_s: float) -> Iterator[RenderableType]:
        doing = "sending the update" if transfer.is_update else "receiving the model"
        yield Text(f"round {round_number}: {doing}", style="bold")
        pace = f", {megabytes(round(transfer.done / elapsed_s))}/s" if elapsed_s > 1 else ""
        yield self._bar(transfer.fraction, f"{megabytes(transfer.done)} of {megabytes(transfer.total)}{pace}")

    def _so_far(self) -> Iterator[RenderableType]:
        if self._last_verdict:
            yield Text(self._last_verdict, style="dim", overflow="ellipsis", no_wrap=True)
        if len([each for each in self._accuracies if each is not None]) > 1:
            found, now = self._line(self._accuracies), self._accuracies[-1]
            last = "" if now is None else f" {now:.3f}"
            yield Text.assemble("global model's accuracy ", (found, "cyan"), last, overflow="ellipsis", no_wrap=True)

    def _line(self, values: list[float | None]) -> str:
        return sparkline(values, width=_CURVE, ascii_only=self._console.options.ascii_only)

    def _bar(self, fraction: float, text: str) -> Table:
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(ProgressBar(total=1.0, completed=fraction, width=self._console.width // 3), text)
        return line


def _where(progress: Progressing) -> str:
    epoch = f", epoch {progress.epoch} of {progress.epochs}" if progress.epochs else ""
    return f"{epoch}, batch {progress.batch} of {progress.batches}" if progress.batches else epoch
