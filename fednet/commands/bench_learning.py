"""`cli.py bench learning`: what federation costs in accuracy, at equal epochs, and what Krum adds to it."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.bench_wire import on_stderr
from fednet.commands.computing import speed_options
from fednet.commands.options import (
    cache_options,
    cache_place,
    device_option,
    json_option,
    learning_options,
    learning_settings,
    pre_option,
    rounds_option,
    training_options,
)
from fednet.commands.privacy_options import privacy_options, privacy_settings, require_private
from fednet.errors import BadInput

_PHANTOMS = 320  # to train on where there is no data set: the same for every setting

if TYPE_CHECKING:
    import torch

    from data.cache import CachePlace
    from fednet.bench.learning import Learned, Line, Setting
    from fednet.config import PrivacySettings, RunSettings
    from fednet.simulate.federation import World


@click.command("learning")
@click.option("--dataset", type=click.Path(path_type=Path), help="Real scans; phantoms without it.")
@click.option(
    "--test-from",
    type=click.Choice(["resplit", "published"]),
    default="resplit",
    show_default=True,
    help="A fifth by duplicate groups, or the data set's own Testing folder.",
)
@rounds_option("Rounds of each run.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="How many, from --seed on.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--settings", "chosen", help="Comma-separated numbers of the settings, from 1 (default: all).")
@click.option("--attack", help="Also the last setting under this attack, by f of its hospitals.")
@click.option("--aggregator", default="multikrum", show_default=True, help="Rule of the federated settings.")
@pre_option
@click.option("--model", default="resnet18", show_default=True, help="resnet18, resnet18-gn or small-cnn.")
@click.option("--image-size", type=int, default=96, show_default=True, help="Pixels, square.")
@training_options
@learning_options
@privacy_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of results; the same one resumes.")
@device_option
@speed_options
@cache_options
@json_option
def bench_learning(
    dataset: Path | None,
    test_from: str,
    rounds: int,
    seeds: int,
    seed: int,
    chosen: str | None,
    attack: str | None,
    aggregator: str,
    pre: tuple[str, ...],
    model: str,
    image_size: int,
    out: Path,
    device: str,
    mixes: bool | None,
    compiles: bool,
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
    **learning: Any,
) -> None:
    """Train the same scans pooled and spread over hospitals, from scratch; differences are paired, image by image."""
    import torch

    from data.classes import CLASSES
    from data.discovery import find_dataset
    from fednet.aggregation.rules.registry import recipe_named
    from fednet.bench.learning import SETTINGS, LearnedFolder, attacked, line_of
    from fednet.bench.machine import machine
    from fednet.config import RunSettings
    from fednet.simulate.attacks import attack_named
    from fednet.worker.compute import Compute
    from fednet.worker.device import device_from, require_compiler

    settings = RunSettings(
        model=model,
        image_size=image_size,
        classes=CLASSES,
        rounds=rounds,
        workers=1,
        aggregator=aggregator,
        pre=pre or (("nnm",) if aggregator == "multikrum" else ()),
        seed=seed,
        **learning_settings(learning, rounds=rounds),
    )
    privacy = privacy_settings(learning)
    require_private(privacy, compiles=compiles, mixes=mixes)
    if recipe_named(settings.aggregator, settings.pre).rule.needs_root:
        raise BadInput(f"--aggregator {aggregator}", found="a rule that needs a root of trust", todo="see `simulate`")
    if attack:
        attack_named(attack, classes=len(CLASSES))  # a name that is none shows before anything is trained
    where = device_from(device)
    if compiles:
        require_compiler(where)
    source = find_dataset(dataset) if dataset else None
    wanted = [*SETTINGS, *([attacked(attack)] if attack else [])]
    if chosen is not None:
        wanted = [wanted[number - 1] for number in _numbers(chosen, most=len(wanted))]
    described = settings.to_dict() | {
        "dataset": source.resolve().name if source else "phantoms",
        "test_from": test_from,
        "baseline": "in epochs, without a server's optimiser",  # not so in earlier versions
        "mixed_precision": privacy is None and Compute(where, mixes=mixes).precision is not torch.float32,
    }
    if privacy is not None:  # a folder of results from before there was any goes on
        described["privacy"] = asdict(privacy)
    if compiles:
        described["compiled"] = True
    results = LearnedFolder(out, described)
    place = cache_place(cache, no_cache=no_cache)
    bench = _Bench(out, source, settings, test_from, where, place, mixes=mixes, compiles=compiles, privacy=privacy)
    for number in range(seeds):
        for setting in wanted:
            if results.find(setting, number) is None:
                learned = bench.learned(setting, number, model_path=results.model_path(setting, number))
                results.keep(setting, number, learned)
    pooled = [results.find(SETTINGS[0], number) for number in range(seeds)]
    lines = [line_of(each, [results.get(each, number) for number in range(seeds)], pooled) for each in wanted]
    document = {
        "bench": "learning",
        "machine": machine(),
        "settings": described,
        "samples": {each.setting: each.accuracies for each in lines},
        "ours": {each.setting: each.accuracy for each in lines},
        "reference": None if None in pooled else statistics.fmean(each.accuracy[-1] for each in pooled if each),
        "ratio": {each.setting: each.of_pooled for each in lines},
        "lines": [asdict(each) for each in lines],
        "meaning": {
            "ours": "accuracy on the unseen test set after the last round, mean over seeds",
            "reference": "the same of the pooled scans",
            "ratio": "ours over reference; null where the pooled scans were not trained on with every seed",
        },
    }
    if as_json:
        click.echo(json.dumps(document))
    else:
        _print(lines, described)


class _Bench:
    """Runs one setting with one seed."""

    def __init__(
        self,
        folder: Path,
        dataset: Path | None,
        settings: RunSettings,
        test_from: str,
        device: torch.device,
        cache: CachePlace,
        *,
        mixes: bool | None,
        compiles: bool,
        privacy: PrivacySettings | None,
    ) -> None:
        self._folder, self._dataset, self._settings = folder, dataset, settings
        self._test_from, self._device, self._cache = test_from, device, cache
        self._mixes, self._compiles, self._privacy = mixes, compiles, privacy

    def learned(self, setting: Setting, number: int, *, model_path: Path) -> Learned:
        """Return what became of it, and leave its last model in `model_path`."""
        from data.classes import CLASSES
        from fednet.aggregation.rules.registry import recipe_named
        from fednet.bench.learning import CENTRALISED, Learned
        from fednet.config import automatic_byzantine
        from fednet.reporting.metrics import metrics_of, predictions
        from fednet.simulate.attacks import attack_named
        from fednet.simulate.federation import VirtualFederation
        from models import checkpoint

        recipe = recipe_named(self._settings.aggregator, self._settings.pre)
        most = automatic_byzantine(setting.workers)
        byzantine = recipe.tolerated(setting.workers, most=most) if recipe.rule.tolerates else 0
        settings = replace(
            self._settings,
            seed=self._settings.seed + number,
            workers=setting.workers,
            quorum=setting.workers,
            byzantine=byzantine,
        )
        if setting.name == CENTRALISED:
            settings = settings.alone()
        world = self._world(setting, settings)
        attack = attack_named(setting.attack, classes=len(CLASSES)) if setting.attack else None
        began = time.monotonic()
        federation = VirtualFederation(world, settings, recipe, attack, spool=self._folder / "spool")
        found = federation.run(
            on_round=lambda done, accuracy: on_stderr(
                f"{setting.name}, seed {settings.seed}: round {done} of {settings.rounds}, accuracy {accuracy:.3f}, "
                f"{time.monotonic() - began:.0f} s"
            )
        )
        if found.parked:
            raise BadInput(f"bench learning, {setting.name}", found=f"a run that parked: {found.parked}")
        network = federation.network()
        chances, labels = predictions(network, world.test, batch_size=64)
        judged = metrics_of(chances, labels, classes=CLASSES)
        facts = checkpoint.CheckpointFacts(
            model=settings.model, classes=CLASSES, image_size=settings.image_size, round=settings.rounds
        )
        checkpoint.save(model_path, network.state_dict(), facts)
        return Learned(
            accuracy=found.accuracy,
            macro_f1=judged.macro_f1,
            answers=chances.argmax(dim=1).tolist(),
            labels=labels.tolist(),
            classes=len(CLASSES),
            honest_rejected=sum(map(len, found.honest_rejected)),
            attackers_selected=sum(found.attackers_selected),
            seconds=time.monotonic() - began,
            epsilon=max(federation.spent().values(), default=None),
        )

    def _world(self, setting: Setting, settings: RunSettings) -> World:
        from data.splitting import SplitSettings
        from fednet.commands.virtual import make_split, world_from

        folder = self._folder / "data" / f"{setting.scheme}-{setting.alpha:g}-{setting.workers}-seed-{settings.seed}"
        split = SplitSettings(
            clients=setting.workers,
            scheme=setting.scheme,
            alpha=setting.alpha,
            seed=settings.seed,
            test_from="published" if self._dataset is None else self._test_from,
        )
        make_split(folder, self._dataset, split, image_size=settings.image_size, phantoms=_PHANTOMS)
        return world_from(
            folder,
            settings,
            device=self._device,
            has_root=False,
            mixes=self._mixes,
            compiles=self._compiles,
            cache=self._cache,
            privacy=self._privacy,
        )


def _numbers(text: str, *, most: int) -> list[int]:
    numbers = [int(part) if part.strip().isdigit() else 0 for part in text.split(",")]
    if not all(1 <= number <= most for number in numbers):
        raise BadInput(f"--settings {text}", expected=f"comma-separated numbers from 1 to {most}")
    return numbers


def _print(lines: list[Line], described: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    epochs = described["rounds"] * described["training"]["local_epochs"]
    title = f"{described['model']} at {described['image_size']} px from scratch, {epochs:g} epochs each"
    if "privacy" in described:
        title += f", epsilon {described['privacy']['epsilon']:g} of each site's scans at most"
    table = Table(title=title)
    for name in (
        "",
        "accuracy",
        "each seed",
        "macro F1",
        "behind centralised (95 %)",
        "honest left out",
        "epsilon spent",
    ):
        table.add_column(name, justify="right" if name else "left")
    for each in lines:
        behind = each.behind
        table.add_row(
            each.setting,
            f"{each.accuracy:.3f}",
            " ".join(f"{value:.3f}" for value in each.accuracies),
            f"{each.macro_f1:.3f}",
            f"{behind.value:+.3f} ({behind.low:+.3f} to {behind.high:+.3f})" if behind else "",
            str(each.honest_rejected),
            "-" if each.epsilon is None else f"{each.epsilon:.3f}",
        )
    Console(width=140).print(table)
    if described["test_from"] == "published":
        click.echo(
            "Warning: the published Testing folder is drawn differently from Training, and shares images with it"
        )
