"""What the consoles of coordinator and worker draw with: curves in a line, durations, live views."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*#@"
_REDRAWS_PER_S = 1.0  # as often as there is news; one of twenty workers takes 30 ms of a core


def can_redraw(console: Console) -> bool:
    """Whether a person looks at a terminal that can be drawn over: FORCE_COLOR alone makes none of a file."""
    return console.is_interactive and console.file.isatty()


def live_view(console: Console) -> Live:
    """Return a view that is gone when it is stopped; log lines pass above it, unless stderr goes elsewhere."""
    return Live(
        console=console,
        refresh_per_second=_REDRAWS_PER_S,
        transient=True,
        redirect_stderr=sys.stderr.isatty(),
    )


def sparkline(values: Sequence[float | None], *, width: int, ascii_only: bool = False) -> str:
    """Return the last `width` values as a line of bars from the lowest to the highest; a blank where there is none."""
    shown = values[-width:]
    known = [value for value in shown if value is not None]
    if not known:
        return ""
    steps = _ASCII if ascii_only else _BLOCKS
    lowest, span = min(known), max(known) - min(known)
    return "".join(" " if value is None else steps[_step(value - lowest, span, len(steps))] for value in shown)


def _step(above: float, span: float, count: int) -> int:
    return count // 2 if span == 0 else min(count - 1, int(above / span * count))


def duration(seconds: float) -> str:
    """Return for example `40 s`, `12 min` or `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(nbytes: int) -> str:
    """Return for example `44.7 MB`."""
    return f"{nbytes / 1e6:.1f} MB"
