"""`cli.py evaluate`: how good saved models are on a folder of scans, and how sure that is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.options import cache_options, cache_place, device_option, json_option, max_bad_files_option
from fednet.errors import BadInput

if TYPE_CHECKING:
    from fednet.commands.judging import Compared, Judged


@click.command("evaluate")
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="A .pth of FedNet (final, best, client_1); repeatable: each is compared with the first.",
)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of scans, one folder per class.")
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    help="Other scans, to calibrate by (default: the model's own temperature, if it has one).",
)
@click.option(
    "--specificity",
    type=click.FloatRange(0.0, 1.0),
    default=0.95,
    show_default=True,
    help="Of scans without a tumour, the share that is not to be called: the sensitivity is given at it.",
)
@click.option("--resamples", type=int, default=2000, show_default=True, help="Of the bootstrap; 0: no intervals.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw it all into this PNG.")
@device_option
@max_bad_files_option
@cache_options
@json_option
def command(
    models: tuple[Path, ...],
    data: Path,
    validation: Path | None,
    specificity: float,
    resamples: int,
    plot: Path | None,
    device: str,
    max_bad_files: float,
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
) -> None:
    """Judge every --model on every scan in --data: figures with their 95 % intervals, and how models differ."""
    from data.split_record import doubts_about_test
    from fednet.commands.evaluation_text import show
    from fednet.commands.judging import Judge
    from fednet.reporting.bootstrap import FEWEST_RESAMPLES
    from fednet.worker.device import device_from

    if resamples and resamples < FEWEST_RESAMPLES:
        raise BadInput(f"--resamples {resamples}", expected=f"{FEWEST_RESAMPLES} or more, or 0 for no intervals")
    judge = Judge(
        data,
        validation=validation,
        device=device_from(device),
        max_bad_files=max_bad_files,
        specificity=specificity,
        resamples=resamples,
        notice=lambda text: click.echo(text, err=True),
        cache=cache_place(cache, no_cache=no_cache),
    )
    judged = [judge.judge(each) for each in models]
    compared = [judge.compare(judged[0], each) for each in judged[1:]]
    warnings = doubts_about_test(data) + judge.warnings
    for text in warnings:
        click.echo(f"Warning: {text}", err=True)
    if plot is not None:
        _draw(plot, judged)
    if as_json:
        click.echo(json.dumps(_document(data, judged, compared, warnings)))
        return
    show(judged, compared)
    if plot is not None:
        click.echo(f"Written: {plot}.")


def _document(
    data: Path, judged: Sequence[Judged], compared: Sequence[Compared], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return one model's document, or several in one."""
    shared = {"data": str(data), "warnings": list(warnings)}
    if len(judged) == 1:
        return judged[0].to_dict() | shared
    return shared | {
        "models": [each.to_dict() for each in judged],
        "differences": [each.to_dict() for each in compared],
    }


def _draw(plot: Path, judged: Sequence[Judged]) -> None:
    from fednet.reporting.evaluation_plot import Portrait, draw_evaluation

    draw_evaluation(
        plot,
        [
            Portrait(
                title=f"{each.path}: {each.metrics.images} images, accuracy {each.metrics.accuracy:.3f}, "
                f"macro F1 {each.metrics.macro_f1:.3f}",
                classes=each.facts.classes,
                metrics=each.metrics,
                outputs=each.outputs,
                temperature=None if each.rules_from == "none" else each.rules.temperature,
            )
            for each in judged
        ],
    )
