"""`cli.py gains`: what each hospital gains from joining, and from tuning the federation's model to itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.computing import computing_options, prepared_device, speed_options
from fednet.commands.holding_out import holding_out_from
from fednet.commands.options import (
    cache_options,
    cache_place,
    device_option,
    json_option,
    max_bad_files_option,
    pretrained_option,
    rounds_option,
    schedule_options,
    training_options,
    training_settings,
    weights_option,
)
from fednet.commands.worker import name_of
from fednet.config import RunSettings, WorkerName
from fednet.errors import BadInput

if TYPE_CHECKING:
    from data.images import ScanSet
    from fednet.commands.gaining import SiteGains


@click.command("gains")
@click.argument("folders", metavar="SITE_FOLDER...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model", type=click.Path(path_type=Path), required=True, help="The run's global model: final.pth, best.pth."
)
@click.option(
    "--hold-out", type=float, default=0.15, show_default=True, help="The share of scans that judge, as for worker join."
)
@click.option("--name", "names", multiple=True, help="The folders' workers, in order (default: the folders' numbers).")
@click.option("--test", type=click.Path(path_type=Path), help="A test set that no site has: server_data/test.")
@click.option(
    "--own", "own_paths", type=click.Path(path_type=Path), multiple=True, help="The sites' client_ID.pth, in order."
)
@rounds_option("Of the run: a site alone trains as many epochs, of --local-epochs each round.")
@training_options
@schedule_options
@pretrained_option
@weights_option
@click.option("--tune-epochs", type=int, default=5, show_default=True, help="Of the global model at a site.")
@click.option("--tune-lr", type=float, help="Its learning rate there (default: a tenth of --lr).")
@click.option("--tune-freeze-until", default="", help="Layers up to this one stay the global model's: layer2, say.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random.")
@device_option
@speed_options
@computing_options
@max_bad_files_option
@cache_options
@click.option(
    "--save-dir", type=click.Path(path_type=Path), help="Write what is trained at each site into this folder."
)
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
    """Compare at each SITE_FOLDER: a model of its scans alone, the federation's, and that one tuned to the site.

    With the settings of the run, as for train-local, the first is what the hospital would have without it.
    """
    from fednet.commands import gains_inputs, wiring
    from fednet.commands.gaining import Contest, save_models
    from fednet.commands.gains_text import show
    from fednet.commands.local_training import local_settings, tuning_settings
    from fednet.worker.compute import Compute
    from fednet.worker.objective import require_trainable

    def notice(text: str) -> None:
        click.echo(text, err=True)

    def scans_of(folder: Path) -> ScanSet:
        size = settings.image_size
        return wiring.load_scans(folder, image_size=size, max_bad_files=max_bad_files, notice=notice, cache=place)

    holding_out_from(hold_out, False)
    workers = _workers(names, folders)
    where, place = prepared_device(device, local, notice=notice), cache_place(cache, no_cache=no_cache)
    saved = wiring.load_classifier(model)
    owns = gains_inputs.own_models(own_paths, sites=len(folders), of=saved.facts)
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
    ).alone()
    start = wiring.new_model(settings.model, seed=seed, pretrained=pretrained, weights=weights, notice=notice)
    require_trainable(start, settings.training)
    tuning = tuning_settings(
        settings.training, start, epochs=tune_epochs, learning_rate=tune_lr, freeze_until=tune_freeze_until
    )
    tested = None if test is None else gains_inputs.SharedTest(test, scans_of(test))
    sites = [
        gains_inputs.divided(folder, scans_of(folder), share=hold_out, name=name)
        for name, folder in zip(workers, folders, strict=True)
    ]
    compute = Compute(where, compiles=local["compiles"], mixes=local["mixes"], notice=notice)
    contest = Contest(saved, start, settings=settings, tuning=tuning, test=tested, compute=compute, notice=notice)
    found: list[SiteGains] = []
    for site, own in zip(sites, owns, strict=True):
        models = contest.models(site, own)
        if save_dir is not None:
            written = save_models(save_dir, site.name, models, of=saved.facts)
            notice(f"written: {', '.join(map(str, written))}")
        found.append(contest.judged(site, models))
    warnings = [_contamination(hold_out, test), *([] if tested is None else tested.doubts())]
    for site, own in zip(sites, owns, strict=True):
        warnings += gains_inputs.doubts_about(site, own, run=saved.facts.run)
    for text in warnings:
        click.echo(f"Warning: {text}", err=True)
    if as_json:
        facts = {"model": str(model), "round": saved.facts.round, "hold_out": hold_out}
        described = {"test": None if test is None else str(test), "settings": local_settings(settings)}
        click.echo(
            json.dumps(facts | described | {"tuning": asdict(tuning)} | _results(found) | {"warnings": warnings})
        )
        return
    show(found, test=test)


def _workers(names: Sequence[str], folders: Sequence[Path]) -> list[WorkerName]:
    """Return each folder's worker: as named, or by the number in the folder's name; raises `BadInput`."""
    if names and len(names) != len(folders):
        raise BadInput(
            "--name", found=f"{len(names)} for {len(folders)} folders", expected="one for each folder, in their order"
        )
    asked: Sequence[str | None] = names or [None] * len(folders)
    found = [_worker(name, folder) for name, folder in zip(asked, folders, strict=True)]
    if len(set(found)) < len(found):
        raise BadInput(
            f"workers {', '.join(found)}",
            found="one of them twice",
            expected="a worker for each folder",
            todo="give their names with --name, in the order of the folders",
        )
    return found


def _worker(name: str | None, folder: Path) -> WorkerName:
    try:
        return name_of(name, folder, None)
    except BadInput as exc:
        if name is not None:
            raise
        raise BadInput("--name", found=exc.found, todo="pass --name client1, say, for each folder in order") from exc


def _contamination(share: float, test: Path | None) -> str:
    other = "--test" if test is None else str(test)
    return (
        "the held-out figures are fair only where each hospital joined the run with this very --hold-out "
        f"{share:g} from its first round on, which cannot be known here: else the global model has trained on these "
        f"scans. Figures on {other} do not depend on it"
    )


def _results(found: Sequence[SiteGains]) -> dict[str, Any]:
    from fednet.reporting.gains import mean_of

    means = {
        "held_out": mean_of([each.held_out for each in found if each.held_out is not None]),
        "test": mean_of([each.test for each in found if each.test is not None]),
    }
    return {
        "sites": [each.to_dict() for each in found],
        "mean": {name: None if mean is None else asdict(mean) for name, mean in means.items()},
    }
