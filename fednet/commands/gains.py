"""`cli.py gains`: what each hospital gains from joining, and from tuning the federation's model to itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.options import (
    cache_options,
    cache_place,
    device_option,
    json_option,
    max_bad_files_option,
    pretrained_option,
    schedule_options,
    training_options,
    training_settings,
    weights_option,
)
from fednet.errors import BadInput

if TYPE_CHECKING:
    from fednet.commands.gaining import SiteGains
    from fednet.reporting.gains import Mean
    from models.checkpoint import Checkpoint


@click.command("gains")
@click.argument("folders", metavar="SITE_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", type=click.Path(path_type=Path), required=True, help="The run's global model: final.pth, best.pth."
)
@click.option("--hold-out", type=float, default=0.15, show_default=True, help="The share that the hospitals joined with.")
@click.option("--name", "names", multiple=True, help="The folders' workers, in order (default: the folders' numbers).")
@click.option("--test", type=click.Path(path_type=Path), help="A test set that no site has: server_data/test.")
@click.option(
    "--own", "own_paths", type=click.Path(path_type=Path), multiple=True, help="The sites' client_ID.pth, in order."
)
@click.option("--rounds", type=int, default=10, show_default=True, help="Of a site alone, of --local-epochs each.")
@training_options
@schedule_options
@pretrained_option
@weights_option
@click.option("--tune-epochs", type=int, default=5, show_default=True, help="Of the global model at a site.")
@click.option("--tune-lr", type=float, help="Its learning rate there (default: a tenth of --lr).")
@click.option("--tune-freeze-until", default="", help="Layers up to this one stay the global model's: layer2, say.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random.")
@device_option
@max_bad_files_option
@cache_options
@click.option("--save-dir", type=click.Path(path_type=Path), help="Write each site's models into this folder.")
@json_option
def command(
    folders: tuple[Path, ...],
    model: Path,
    hold_out: float,
    names: tuple[str, ...],
    test: Path | None,
    own_paths: tuple[Path, ...],
    rounds: int,
    lr_schedule: str,
    warmup_rounds: int,
    pretrained: str,
    weights: Path | None,
    tune_epochs: int,
    tune_lr: float | None,
    tune_freeze_until: str,
    seed: int,
    device: str,
    max_bad_files: float,
    cache: Path | None,
    no_cache: bool,
    save_dir: Path | None,
    as_json: bool,
    **local: Any,
) -> None:
    """Compare at each SITE_FOLDER: a model of its data alone, the federation's, and that one tuned to the site.

    With the settings of the run (as for train-local) the first is what the hospital would have had without it.
    """
    from data.split_record import doubts_about_test
    from fednet.commands import gaining, wiring
    from fednet.commands.gains_text import show
    from fednet.commands.holding_out import holding_out_from
    from fednet.commands.local_training import tuning_settings
    from fednet.config import RunSettings
    from fednet.worker.device import device_from
    from fednet.worker.objective import require_trainable

    def notice(text: str) -> None:
        click.echo(text, err=True)

    holding_out_from(hold_out, False)
    workers = _workers(names, folders)
    where, place = device_from(device), cache_place(cache, no_cache=no_cache)
    saved = gaining.global_model(model)
    owns = gaining.own_models(own_paths, sites=len(folders), of=saved.facts)
    settings = RunSettings(
        model=saved.facts.model,
        image_size=saved.facts.image_size,
        classes=saved.facts.classes,
        rounds=rounds,
        workers=1,
        seed=seed,
        lr_schedule=lr_schedule,
        warmup_rounds=warmup_rounds,
        training=training_settings(local),
    )
    start = wiring.new_model(settings.model, seed=seed, pretrained=pretrained, weights=weights, notice=notice)
    require_trainable(start, settings.training)
    tuning = tuning_settings(
        settings.training, start, epochs=tune_epochs, learning_rate=tune_lr, freeze_until=tune_freeze_until
    )

    def scans_of(folder: Path) -> ScanSet:
        size = settings.image_size
        return wiring.load_scans(folder, image_size=size, max_bad_files=max_bad_files, notice=notice, cache=place)

    test_scans = None if test is None else scans_of(test)
    sites = [
        gaining.divided(folder, scans_of(folder), share=hold_out, name=name)
        for name, folder in zip(workers, folders, strict=True)
    ]
    contest = gaining.Contest(
        saved, start, settings=settings, tuning=tuning, test=test_scans, device=where, notice=notice
    )
    found: list[SiteGains] = []
    for site, own in zip(sites, owns, strict=True):
        models = contest.models(site, own)
        if save_dir is not None:
            gaining.save_models(save_dir, site.name, models, settings=settings, of=saved.facts)
        found.append(contest.judged(site, models))
    warnings = [_contamination(hold_out, test)]
    if test is not None and test_scans is not None:
        present = list(test_scans.class_counts().values())
        warnings += doubts_about_test(test) + gaining.doubts_about_classes(str(test), test_scans, present)
    warnings += [doubt for site, own in zip(sites, owns, strict=True) for doubt in gaining.doubts_about(site, own)]
    for text in warnings:
        click.echo(f"Warning: {text}", err=True)
    if as_json:
        described = {"model": str(model), "round": saved.facts.round, "hold_out": hold_out}
        trained = {"settings": local_settings(settings), "tuning": asdict(tuning)}
        click.echo(json.dumps(described | trained | _results(found, test) | {"warnings": warnings}))
        return
    show(found, test)
    if save_dir is not None:
        click.echo(f"{', '.join(gaining.SAVED)} models of each site -> {save_dir}")


def _workers(names: Sequence[str], folders: Sequence[Path]) -> list[WorkerName]:
    """Return each folder's worker: as named, or by the number in the folder's name; raises `BadInput`."""
    if names and len(names) != len(folders):
        raise BadInput("--name", found=f"{len(names)} names of {len(folders)} folders", expected="one for each, in order")
    try:
        found = [name_of(name, folder, None) for name, folder in zip(names or [None] * len(folders), folders, strict=True)]
    except BadInput as exc:
        raise
    if len(set(found)) < len(found):
        raise BadInput(
            "site folders",
            found=f"workers {', '.join(found)}",
            expected="each only once",
            todo="name them with --name, in the order of the folders",
        )
    return found
