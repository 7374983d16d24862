"""`cli.py evaluate`: how good a saved model is on a folder of scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fednet.commands.options import device_option, json_option, max_bad_files_option


@click.command("evaluate")
@click.option(
    "--model", type=click.Path(path_type=Path), required=True, help="A .pth of FedNet (final, best, client_1)."
)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of scans, one folder per class.")
@device_option
@max_bad_files_option
@json_option
def command(model: Path, data: Path, device: str, max_bad_files: float, as_json: bool) -> None:
    """Judge the model in --model on every scan in --data."""
    from data.loaders import ScanLoader
    from fednet.commands import wiring
    from fednet.reporting.metrics import evaluate
    from fednet.worker.device import device_from

    where = device_from(device)
    saved = wiring.load_checkpoint(model)
    network = saved.build().to(where)
    scans = wiring.load_scans(
        data,
        image_size=saved.facts.image_size,
        max_bad_files=max_bad_files,
        notice=lambda text: click.echo(text, err=True),
    )
    metrics = evaluate(network, ScanLoader(scans, where), classes=saved.facts.classes).to_dict()
    if as_json:
        click.echo(json.dumps(metrics))
        return
    _print(metrics)


def _print(metrics: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(metrics["per_class"])
    scores = Table(title=f"{metrics['images']} images, accuracy {metrics['accuracy']:.3f}")
    for column in ("class", "recall", "precision", "F1", "AUC", "images"):
        scores.add_column(column, justify="left" if column == "class" else "right")
    for name, each in metrics["per_class"].items():
        values = (_rounded(each[key]) for key in ("recall", "precision", "f1", "auc"))
        scores.add_row(name, *values, str(each["support"]))
    confusion = Table(title="Confusion: what it is, and what the model says")
    confusion.add_column("is")
    for name in names:
        confusion.add_column(name, justify="right")
    for name, row in zip(names, metrics["confusion"], strict=True):
        confusion.add_row(name, *map(str, row))
    console = Console()
    console.print(scores)
    console.print(confusion)
    click.echo(
        f"balanced accuracy {metrics['balanced_accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}, "
        f"macro AUC {_rounded(metrics['macro_auc'])}, loss {metrics['loss']:.3f}"
    )


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
