"""`cli.py train-local`: the same training code without federation, the baseline to compare with."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import click

from fednet.commands.computing import computing_options, prepared_device, speed_options
from fednet.commands.options import (
    cache_options,
    cache_place,
    device_option,
    json_option,
    max_bad_files_option,
    model_options,
    pretrained_option,
    rounds_option,
    schedule_options,
    training_options,
    training_settings,
    weights_option,
)
from fednet.commands.privacy_options import (
    name_ledger,
    privacy_options,
    privacy_settings,
    require_private,
    site_privacy,
)


@click.command("train-local")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--server-data",
    type=click.Path(path_type=Path),
    default=Path("server_data"),
    show_default=True,
    help="Folder with validation/ and test/, judged after every epoch.",
)
@model_options
@rounds_option("Of the run it is compared with: as many epochs are trained, and judged one by one.")
@training_options
@schedule_options
@privacy_options
@pretrained_option
@weights_option
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random.")
@device_option
@speed_options
@computing_options
@max_bad_files_option
@cache_options
@click.option("--save", type=click.Path(path_type=Path), help="Write the model of the best validation here.")
@json_option
def command(
    folders: tuple[Path, ...],
    server_data: Path,
    model: str,
    image_size: int,
    rounds: int,
    lr_schedule: str,
    warmup_rounds: int,
    pretrained: str,
    weights: Path | None,
    seed: int,
    device: str,
    max_bad_files: float,
    cache: Path | None,
    no_cache: bool,
    save: Path | None,
    as_json: bool,
    **local: Any,
) -> None:
    """Train on FOLDERS pooled: one hospital alone, or all of them as if their scans could be in one place.

    With the settings of a run it is that run's baseline: --rounds times --local-epochs, one epoch after the other, on
    the same schedule.
    """
    import torch

    from data.classes import CLASSES
    from data.images import ScanSet
    from data.loaders import ScanLoader
    from fednet.commands import wiring
    from fednet.commands.local_card import leave_card
    from fednet.commands.local_training import train_alone
    from fednet.config import RunSettings
    from fednet.reporting.model_card import card_files
    from fednet.storage import disk
    from fednet.tensors import pack
    from fednet.worker.compute import Compute
    from fednet.worker.objective import require_trainable
    from models import checkpoint

    def notice(text: str) -> None:
        click.echo(text, err=True)

    settings = RunSettings(
        model=model,
        image_size=image_size,
        classes=CLASSES,
        rounds=rounds,
        workers=1,
        seed=seed,
        lr_schedule=lr_schedule,
        warmup_rounds=warmup_rounds,
        training=training_settings(local),
    ).alone()
    private = privacy_settings(local)
    require_private(private, compiles=local["compiles"], mixes=local["mixes"])
    where, place = prepared_device(device, local, notice=notice), cache_place(cache, no_cache=no_cache)
    network = wiring.new_model(model, seed=seed, pretrained=pretrained, weights=weights, notice=notice)
    require_trainable(network, settings.training)
    manifest = wiring.manifest_for(network)
    judge = wiring.ServerJudge(
        server_data,
        model=network,
        manifest=manifest,
        image_size=image_size,
        device=where,
        max_bad_files=max_bad_files,
        notice=notice,
        cache=place,
    )
    sets = [
        wiring.load_scans(folder, image_size=image_size, max_bad_files=max_bad_files, notice=notice, cache=place)
        for folder in folders
    ]
    pooled = ScanSet(torch.cat([each.images for each in sets]), torch.cat([each.labels for each in sets]), ())
    data = ScanLoader(pooled, where)
    compute = Compute(where, compiles=local["compiles"], mixes=local["mixes"], notice=notice)
    privacy = site_privacy(
        private,
        beside=save,
        run=f"train-local {secrets.token_hex(8)}",
        planned=settings,
        data=data,
        model=network,
        notice=notice,
    )
    if save is not None:
        for stale in card_files(save.name):  # of the model that was there
            disk.unlink(save.with_name(stale))
    history: list[dict[str, Any]] = []
    for number, result in train_alone(network, data, settings, compute=compute, privacy=privacy):
        judged = judge(pack(network.state_dict(), manifest))
        loss = result.mean_loss if privacy is None else None
        history.append({"round": number, "train_s": result.train_s, "train_loss": loss, **judged})
        test = judged["test"]
        notice(
            f"round {number} of {settings.rounds}: {f'loss {loss:.3f}, ' if loss is not None else ''}"
            f"test accuracy {test['accuracy']:.3f}, macro F1 {test['macro_f1']:.3f}, {result.train_s:.1f} s"
        )
        is_best = max(range(number), key=lambda i: float(history[i]["validation"]["macro_f1"])) == number - 1
        if save is not None and is_best:
            facts = checkpoint.CheckpointFacts(
                model=model,
                classes=CLASSES,
                image_size=image_size,
                round=number,
                extra={"ledger": privacy.head} if privacy else {},
            )
            checkpoint.save(save, network.state_dict(), facts)
        elif save is not None and privacy is not None:
            name_ledger(save, privacy.head)
    if save is not None:
        counts = [each.class_counts() for each in sets]
        card = leave_card(
            save,
            judge=judge,
            manifest=manifest,
            settings=settings,
            history=history,
            folders=folders,
            counts=counts,
            privacy={"epsilon": privacy.epsilon, "delta": privacy.delta} if privacy else None,
        )
    if as_json:
        click.echo(json.dumps({"folders": [str(folder) for folder in folders], "rounds": history}))
    elif save is not None:
        click.echo(f"best by validation, calibrated by it -> {save}; its card -> {card}")
