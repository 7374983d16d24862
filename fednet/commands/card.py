"""`cli.py runs card`: what a run's model was made of, how good it is, and what it is not for; nothing is changed."""

from __future__ import annotations

from pathlib import Path

import click

from fednet.commands.options import json_option, run_argument, run_folder
from fednet.errors import BadInput


@click.command("card")
@run_argument
@click.option("--best", is_flag=True, help="Of best.pth, the best by validation (without it: final.pth).")
@json_option
def command(run: Path, best: bool, as_json: bool) -> None:
    """Print the model card that the run RUN (its folder, or its name in runs/) left when it finished."""
    from fednet.coordinator.expected_files import BEST, FINAL
    from fednet.reporting.model_card import card_files

    folder = run_folder(run)
    in_json, in_markdown = card_files(BEST if best else FINAL)
    path = folder / (in_json if as_json else in_markdown)
    try:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
    except FileNotFoundError as exc:
        raise _no_card(folder, path.name) from exc


def _no_card(folder: Path, name: str) -> BadInput:
    """Return why a run has no card and what to do; raises `BadInput` where there is no run."""
    from fednet.storage.history import Standing, read_history

    found = read_history(folder)
    done = f"{len(found.rounds)} of {found.settings.rounds} rounds done"
    if found.standing is Standing.FINISHED:
        todo = "`coordinator start --resume` writes what a run that has finished lacks"
        return BadInput(f"run {folder}", found=f"no {name}, {done}", todo=todo)
    return BadInput(f"run {folder}", found=f"no {name}, {done}", expected="a run that has finished: it leaves cards")
