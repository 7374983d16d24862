"""`cli.py simulate`: which attacks which aggregation rule withstands, as a table and a picture."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.computing import computing_options, prepared_device
from fednet.commands.options import (
    cache_options,
    cache_place,
    client_privacy_options,
    client_privacy_settings,
    compress_option,
    device_option,
    json_option,
    learning_options,
    learning_settings,
    rounds_option,
    training_options,
)
from fednet.config import RunSettings, automatic_byzantine
from fednet.errors import BadInput

if TYPE_CHECKING:
    from fednet.aggregation.recipe import Recipe
    from fednet.simulate.attacks import Attack
    from fednet.simulate.grid import Summary

_ATTACKS = "none,sign-flip,ipm:scale=0.1,ipm:scale=2,alie,alie:z=1.5,mimic,label-flip,min-max"
_RULES = (
    "fedavg,krum,multikrum,nnm+multikrum,geometric-median,centered-clipping,arc+nnm+trimmed-mean,fltrust,"
    "guarded-multikrum,learned-weights,tournament"
)


@click.command("simulate")
@click.option("--dataset", type=click.Path(path_type=Path), help="Real scans (re-split); phantoms without it.")
@click.option("--workers", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Virtual hospitals.")
@click.option("--byzantine", default="auto", show_default=True, help="f: how many of them are malicious, or auto.")
@click.option("--attack", "attacks", default=_ATTACKS, show_default=True, help="Comma-separated; none: nobody attacks.")
@click.option("--aggregator", "rules", default=_RULES, show_default=True, help="Comma-separated; PRE+RULE composes.")
@click.option("--pre", multiple=True, help="Pre-aggregation before every rule of the grid.")
@click.option("--partition", default="iid", show_default=True, help="iid, dirichlet:ALPHA or quantity:ALPHA.")
@rounds_option("Rounds of a cell.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many, from --seed on.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--root", type=click.IntRange(1), default=160, show_default=True, help="Images in the root of trust.")
@compress_option
@click.option("--model", default="small-cnn", show_default=True, help="small-cnn, resnet18 or resnet18-gn.")
@click.option("--image-size", type=int, default=32, show_default=True, help="Pixels, square.")
@training_options
@learning_options
@client_privacy_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the grid; the same one resumes it.")
@click.option("--plot", type=click.Path(path_type=Path), help="Folder for the picture (default: --out).")
@device_option
@computing_options
@cache_options
@json_option
def command(
    dataset: Path | None,
    workers: int,
    byzantine: str,
    attacks: str,
    rules: str,
    pre: tuple[str, ...],
    partition: str,
    rounds: int,
    seeds: int,
    seed: int,
    root: int,
    compress: str,
    model: str,
    image_size: int,
    out: Path | None,
    plot: Path | None,
    device: str,
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
    **learning: Any,
) -> None:
    """Run every attack against every rule with virtual hospitals: real training, rounds and aggregation, no sockets.

    Under `torchrun --nproc-per-node N cli.py simulate --out DIR ...` the grid's cells spread over N processes.
    """
    from fednet.simulate.grid import ResultFolder, cells_of, summaries

    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1 and out is None:
        raise BadInput("--out", found="none, and several processes", todo="name the folder that they share")
    from data.classes import CLASSES
    from data.discovery import find_dataset
    from fednet.commands.virtual import Grid
    from fednet.compression.forms import form_named

    form_named(compress, option="--compress")
    source = find_dataset(dataset) if dataset else None
    named = {text: _recipe(text, pre) for text in _listed(rules)}
    known = {text: _attack(text) for text in _listed(attacks)}
    tolerated = _byzantine(byzantine, workers=workers, recipes=named)
    privacy = client_privacy_settings(learning)
    settings = RunSettings(
        model=model,
        image_size=image_size,
        classes=CLASSES,
        rounds=rounds,
        workers=workers,
        byzantine=tolerated,
        quorum=workers,
        seed=seed,
        compress=compress,
        **learning_settings(learning, rounds=rounds, is_private=privacy.is_on),
        client_privacy=privacy,
    )
    _check_privacy(settings, named)
    folder = out or Path("runs") / datetime.now(UTC).strftime("simulate-%Y%m%d-%H%M%S")
    described = settings.to_dict() | {
        "partition": partition,
        "root": root,
        "dataset": source.resolve().name if source else "phantoms",
        "pre_of_all": list(pre),
    }
    if not settings.client_privacy.is_on:
        del described["client_privacy"]  # as in grids of before there was any, which go on
    scheme, alpha = _partition(partition)
    results = ResultFolder(folder, described)
    cells = cells_of(list(named), list(known), seeds)
    grid = Grid(
        folder=folder,
        dataset=source,
        settings=settings,
        results=results,
        recipes=named,
        attacks=known,
        scheme=scheme,
        alpha=alpha,
        root=root,
        device=prepared_device(device, learning, notice=lambda text: click.echo(text, err=True)),
        cache=cache_place(cache, no_cache=no_cache),
        is_first=rank == 0,
    )
    grid.run([cell for index, cell in enumerate(cells) if index % ranks == rank])
    if rank != 0:
        return
    grid.await_all(cells)
    _report(
        summaries(list(named), list(known), seeds, workers=workers, byzantine=tolerated, find=results.find),
        described | {"seeds": seeds},
        folder=folder,
        picture=(plot or folder) / "simulate.png",
        as_json=as_json,
    )


def _report(found: list[Summary], described: dict[str, Any], *, folder: Path, picture: Path, as_json: bool) -> None:
    """Write and draw what was found, and print it."""
    from fednet.reporting.pictures import draw_grid
    from fednet.simulate.grid import robustness
    from fednet.storage.atomic import write_json

    lines = [asdict(each) for each in robustness(found)]
    document = {"settings": described, "cells": [asdict(each) for each in found], "rules": lines}
    write_json(folder / "simulate.json", document)
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_grid(
        picture,
        {(each.recipe, each.attack): each.accuracy for each in found},
        rows=list(dict.fromkeys(each.recipe for each in found)),
        columns=list(dict.fromkeys(each.attack for each in found)),
        title="Accuracy on the unseen test set",
    )
    if as_json:
        click.echo(json.dumps(document))
        return
    _print(found, lines)
    click.echo(f"Every cell: {folder / 'simulate.json'}; picture: {picture}")


def _listed(text: str) -> list[str]:
    names: list[str] = []
    for part in text.split(","):
        if "=" in part and names and ":" in names[-1] and "=" in names[-1] and ":" not in part:
            names[-1] += f",{part}"  # another parameter of the name before
        else:
            names.append(part.strip())
    return list(dict.fromkeys(names))


def _recipe(text: str, pre: tuple[str, ...]) -> Recipe:
    from fednet.aggregation.rules.registry import recipe_named

    alone = recipe_named(text)
    return alone if alone.rule.tries_models else recipe_named(text, pre)


def _attack(text: str) -> Attack | None:
    from data.classes import CLASSES
    from fednet.simulate.attacks import attack_named
    from fednet.simulate.grid import UNATTACKED

    return None if text == UNATTACKED else attack_named(text, classes=len(CLASSES))


def _byzantine(text: str, *, workers: int, recipes: dict[str, Recipe]) -> int:
    if text != "auto" and not text.isdigit():
        raise BadInput("--byzantine", found=text, expected="auto, or a number from 0")
    byzantine = automatic_byzantine(workers) if text == "auto" else int(text)
    for recipe in recipes.values():
        if recipe.rule.tolerates and (shortfall := recipe.shortfall(workers, byzantine)):
            raise BadInput(
                f"--aggregator {recipe.name}", found=shortfall, todo="more --workers, or a smaller --byzantine"
            )
    return byzantine


def _check_privacy(settings: RunSettings, recipes: dict[str, Recipe]) -> None:
    """Raise `BadInput`, before anything is written, where a cell does not go with client-level privacy."""
    from fednet.aggregation.private import private_recipe, require_no_buffers
    from fednet.commands import wiring
    from fednet.simulate.federation import within_budget

    if not settings.client_privacy.is_on:
        return
    for recipe in recipes.values():
        private_recipe(recipe, settings.client_privacy, workers=settings.workers)
        within_budget(settings, recipe)
    network = wiring.new_model(settings.model, seed=0, pretrained="no", weights=None, notice=lambda text: None)
    require_no_buffers(wiring.manifest_for(network), model=settings.model)


def _partition(text: str) -> tuple[str, float]:
    name, colon, alpha = text.partition(":")
    try:
        value = float(alpha) if colon else 0.5
    except ValueError:
        value = -1.0
    if name not in ("iid", "dirichlet", "quantity") or not 1e-3 <= value <= 1e6:
        raise BadInput(f"--partition {text}", expected="iid, dirichlet:0.5 or quantity:0.5, say")
    return name, value


def _print(found: list[Summary], rules: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Attack by attack (means of the last three rounds, over seeds)")
    for name in ("rule", "attack", "accuracy", "worst recall", "attackers counted", "honest left out"):
        table.add_column(name, justify="left" if name in ("rule", "attack") else "right")
    for each in found:
        success = f", backdoor works on {each.attack_success:.0%}" if each.attack_success is not None else ""
        beyond = f" ({each.attackers} attackers: beyond the guarantee)" if each.attackers > each.byzantine else ""
        parked = f", parked in {each.parked}" if each.parked else ""
        spent = f", epsilon {each.epsilon:.3g}" if each.epsilon is not None else ""
        table.add_row(
            each.recipe,
            each.attack + beyond + success + parked + spent,
            f"{each.accuracy:.3f}" + (f" +- {each.spread:.3f}" if each.seeds > 1 else ""),
            f"{each.worst_recall:.3f}",
            f"{each.attackers_selected:.0%}",
            f"{each.honest_rejected:.0%}",
        )
    short = Table(title="Accuracy: without attack, under the worst, on average over the attacks")
    for name in ("rule", "unattacked", "worst", "by", "average"):
        short.add_column(name, justify="left" if name in ("rule", "by") else "right")
    for line in rules:
        unattacked = "-" if line["unattacked"] is None else f"{line['unattacked']:.3f}"
        short.add_row(
            line["recipe"], unattacked, f"{line['worst']:.3f}", line["worst_attack"], f"{line['average']:.3f}"
        )
    Console().print(table, short)
