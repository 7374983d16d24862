"""What an evaluation found out, as tables and lines for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from fednet.commands.judging import Compared, Judged, Screening
    from fednet.reporting.intervals import Interval

_FIGURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
}
_SOURCES = {"validation": "fitted on --validation", "checkpoint": "the model's own"}


def show(judged: Sequence[Judged], compared: Sequence[Compared]) -> None:
    """Print one model's figures, or several models' beside each other and how they differ from the first."""
    console = Console()
    if len(judged) == 1:
        console.print(_scores(judged[0]))
        console.print(_confusion(judged[0]))
        click.echo(_overall(judged[0]))
    else:
        console.print(_beside_each_other(judged))
    for each in judged:
        if len(judged) > 1:
            click.echo(f"{each.path}")
        for line in _beliefs(each):
            click.echo(line)
    for pair in compared:
        click.echo(_in_words(pair))
    if judged[0].intervals is not None:
        click.echo("In brackets: 95 % intervals, images taken as independent (several of one patient are not).")


def _scores(judged: Judged) -> Table:
    metrics, found = judged.metrics, judged.intervals
    accuracy = _text(metrics.accuracy, None if found is None else found.accuracy)
    table = Table(title=f"{metrics.images} images, accuracy {accuracy}")
    for column in ("class", "recall", "precision", "F1", "AUC", "images"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name, each in metrics.per_class.items():
        cells = []
        for figure in ("recall", "precision", "f1", "auc"):
            interval = None if found is None else getattr(found.per_class[name], figure)
            cells.append(_cell(getattr(each, figure), interval))
        table.add_row(name, *cells, str(each.support))
    return table


def _confusion(judged: Judged) -> Table:
    names = list(judged.metrics.per_class)
    table = Table(title="Confusion: what it is, and what the model says")
    table.add_column("is")
    for name in names:
        table.add_column(name, justify="right")
    for name, row in zip(names, judged.metrics.confusion, strict=True):
        table.add_row(name, *map(str, row))
    return table


def _overall(judged: Judged) -> str:
    metrics, found = judged.metrics, judged.intervals
    figures = (
        f"{said} {_text(getattr(metrics, name), None if found is None else getattr(found, name))}"
        for name, said in _FIGURES.items()
        if name != "accuracy"  # stands above
    )
    return f"{', '.join(figures)}, loss {metrics.loss:.3f}"


def _beside_each_other(judged: Sequence[Judged]) -> Table:
    table = Table(title=f"{judged[0].metrics.images} images")
    table.add_column("")
    for each in judged:
        table.add_column(str(each.path), justify="right", overflow="fold")
    for name, said in _FIGURES.items():
        cells = (
            _text(getattr(each.metrics, name), None if each.intervals is None else getattr(each.intervals, name))
            for each in judged
        )
        table.add_row(said, *cells)
    for name in judged[0].metrics.per_class:
        cells = (
            _text(
                each.metrics.per_class[name].recall,
                None if each.intervals is None else each.intervals.per_class[name].recall,
            )
            for each in judged
        )
        table.add_row(f"recall of {name}", *cells)
    return table


def _beliefs(judged: Judged) -> Iterator[str]:
    """Yield what can be said of the probabilities, not only of the most probable class."""
    found, intervals, answered = judged.calibration(), judged.intervals, judged.answered
    ece = _text(found["ece"]["after"], None if intervals is None else intervals.ece)
    brier = _text(found["brier"]["after"], None if intervals is None else intervals.brier)
    ece += f", up to {found['ece_by_chance']['after']:.3f} by chance"
    if judged.rules_from == "none":
        yield f"uncalibrated (temperature 1): ECE {ece}, Brier score {brier}"
    else:
        yield (
            f"temperature {judged.rules.temperature:.2f} ({_SOURCES[judged.rules_from]}): "
            f"ECE {found['ece']['before']:.3f} -> {ece}, Brier score {found['brier']['before']:.3f} -> {brier}"
        )
    if answered.threshold > 0:
        right = "none" if answered.accuracy is None else f"{answered.accuracy:.3f}"
        yield (
            f"below confidence {answered.threshold:.3f} it does not answer: "
            f"it answers {answered.coverage:.1%} of the images, of these rightly {right}"
        )
    if math.isfinite(judged.rules.max_energy):
        yield f"{found['above_max_energy']:.1%} of the images are unlike validation's (energy above the limit)"
    if judged.screening is not None:
        yield from _screened(judged.screening, None if intervals is None else intervals.sensitivity)


def _screened(screening: Screening, interval: Interval | None) -> Iterator[str]:
    own, fixed = screening.own, screening.fixed
    assert own.sensitivity is not None, "a screening has scans of both kinds"
    yield (
        f"any tumour against none: AUC {screening.auc:.3f}, sensitivity {_text(own.sensitivity.value, interval)} "
        f"at specificity {screening.specificity:g} of these scans' own ROC curve"
    )
    if fixed is not None and fixed.sensitivity is not None and fixed.specificity is not None:
        yield (
            f"  called from {fixed.threshold:.3f}, as validation chooses: "
            f"sensitivity {_text(fixed.sensitivity.value, fixed.sensitivity)}, "
            f"specificity {_text(fixed.specificity.value, fixed.specificity)}"
        )


def _in_words(pair: Compared) -> str:
    disagreement, difference = pair.disagreement, pair.difference
    said = f"{pair.second} less {pair.first}: "
    if difference is not None:
        said += f"accuracy {_signed(difference.accuracy)}, macro F1 {_signed(difference.macro_f1)}; "
    return (
        f"{said}only the first is right on {disagreement.only_first} images, only the second on "
        f"{disagreement.only_second} (McNemar's exact p = {disagreement.p_value:.3g})"
    )


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def _cell(value: float | None, interval: Interval | None) -> str:
    """Return a figure over its interval: four of them fit beside each other."""
    return _text(value, None) + ("" if interval is None else f"\n{interval.low:.2f}-{interval.high:.2f}")


def _text(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + ("" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f})")
