"""What sites gain from joining, as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fednet.reporting.gains import FIGURES, GAINS, Standing, mean_of

if TYPE_CHECKING:
    from fednet.commands.gaining import SiteGains
    from fednet.reporting.gains import Mean
    from fednet.reporting.intervals import Interval

_SHORT = {"accuracy": "acc", "macro_f1": "F1"}


def show(found: Sequence[SiteGains], *, test: Path | None) -> None:
    """Print a table of the sites' held-out scans, and one of the test set where there is one."""
    console = Console()
    console.print(_table("On the scans held out at each site", {_on_held_out(each): each.held_out for each in found}))
    if test is not None:
        images = found[0].test.images if found[0].test is not None else 0
        console.print(_table(f"On {images} scans of {test}", {_on_test(each): each.test for each in found}))
    click.echo(
        "alone: trained on the site's other scans; tuned: the global model, trained further on these. acc: accuracy; "
        "F1: macro F1. Below differences: 95 % intervals, images taken as independent (several of one patient are not)."
    )


def _on_held_out(site: SiteGains) -> str:
    return f"{site.name}\n{0 if site.held_out is None else site.held_out.images} of {site.scans}"


def _on_test(site: SiteGains) -> str:
    return f"{site.name}\n{site.trained_on} train"


def _table(title: str, standings: Mapping[str, Standing | None]) -> Table:
    known = [each for each in standings.values() if each is not None]
    kinds = list(known[0].scores) if known else []
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 0, 0, 1))  # with four models it fits into 80 columns
    for column in ("site", ""):
        table.add_column(column)
    for column in (*kinds, *(f"{second}\n- {first}" for first, second in GAINS.values())):
        table.add_column(column, justify="right")
    for site, standing in standings.items():
        _add_site(table, site, standing)
    if (mean := mean_of(known)) is not None:
        _add_mean(table, mean)
    return table


def _add_site(table: Table, site: str, standing: Standing | None) -> None:
    if standing is None:
        table.add_row(site, *["-"] * (len(table.columns) - 1), end_section=True)
        return
    for figure, short in _SHORT.items():
        scores = [_text(getattr(each, figure)) for each in standing.scores.values()]
        gains = [_gain(getattr(each, figure)) for each in standing.gains.values()]
        is_first = figure == FIGURES[0]
        table.add_row(site if is_first else "", short, *scores, *gains, end_section=not is_first)


def _add_mean(table: Table, mean: Mean) -> None:
    for figure, short in _SHORT.items():
        scores = [_text(each[figure]) for each in mean.scores.values()]
        gains = [_signed(each[figure]) for each in mean.gains.values()]
        table.add_row(f"mean of {mean.sites[figure]}", short, *scores, *gains)


def _gain(found: Interval | None) -> str:
    return "-" if found is None else f"{found.value:+.3f}\n{found.low:+.2f} to {found.high:+.2f}"


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"
