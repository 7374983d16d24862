"""`cli.py demo`: certificates, data, a coordinator and workers as real processes over mutual TLS, on this machine."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.beside import dashboard_beside, dashboard_option
from fednet.commands.options import client_privacy_options, client_privacy_settings, json_option
from fednet.config import ClientPrivacySettings
from fednet.errors import BadInput

if TYPE_CHECKING:
    from data.splitting import SplitSettings


@click.command("demo")
@click.option("--workers", type=click.IntRange(1, 64), default=5, show_default=True, help="How many hospitals.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=3, show_default=True, help="How many rounds.")
@click.option(
    "--attack",
    default="sign-flip",
    show_default=True,
    help="What the last worker does to its updates: none, or as for `worker join`.",
)
@click.option("--dataset", type=click.Path(path_type=Path), help="Real scans instead of phantoms: as for `split`.")
@click.option(
    "--test-from",
    type=click.Choice(["published", "resplit"]),
    default="resplit",
    show_default=True,
    help="With --dataset: which test set.",
)
@click.option("--model", default="small-cnn", show_default=True, help="small-cnn, resnet18 or resnet18-gn.")
@click.option("--image-size", type=int, default=64, show_default=True, help="Pixels, square.")
@click.option("--local-epochs", type=int, default=2, show_default=True, help="Epochs at a worker, each round.")
@click.option("--batch-size", type=int, default=16, show_default=True, help="Images a step.")
@click.option("--lr", type=float, default=0.02, show_default=True, help="Learning rate.")
@click.option(
    "--aggregator",
    default="multikrum",
    show_default=True,
    help="As for `coordinator start`; those without a root of trust.",
)
@click.option(
    "--compare/--no-compare", default=True, help="Also run plain averaging under the same attack (default: yes)."
)
@client_privacy_options
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Where everything goes (default: runs/demo-TIME).")
@dashboard_option
@json_option
def command(
    workers: int,
    rounds: int,
    attack: str,
    dataset: Path | None,
    test_from: str,
    model: str,
    image_size: int,
    local_epochs: int,
    batch_size: int,
    lr: float,
    aggregator: str,
    compare: bool,
    seed: int,
    run_dir: Path | None,
    dashboard: str | None,
    as_json: bool,
    **privacy: Any,
) -> None:
    """Show the whole system on this machine; with an attack, also what plain averaging would have got."""
    from fednet.commands.processes import run_federation
    from fednet.simulate.attacks.tamper import tamper_named

    if attack != "none":
        tamper_named(attack, seed=0)  # a wrong name is said before anything is written
    private = client_privacy_settings(privacy)
    _check_privacy(private, model=model, aggregator=aggregator, workers=workers)
    began = time.monotonic()
    folder = run_dir or Path("runs") / datetime.now(UTC).strftime("demo-%Y%m%d-%H%M%S")
    if folder.exists() and any(folder.iterdir()):
        raise BadInput(f"--run-dir {folder}", found="a folder that is not empty", todo="choose another")
    with contextlib.ExitStack() as stack:
        page: subprocess.Popen[str] | None = None
        if dashboard is not None:
            tell = functools.partial(click.echo, err=as_json)
            _make_certificate(folder / "certs")
            beside = dashboard_beside(folder / aggregator, dashboard, certs=folder / "certs", notice=tell)
            page = stack.enter_context(beside)
        data = folder / "data"
        _make_data(dataset, data, workers=workers, seed=seed, size=image_size, test_from=test_from)
        options = ["--rounds", rounds, "--model", model, "--image-size", image_size, "--local-epochs", local_epochs]
        options += ["--batch-size", batch_size, "--lr", lr, "--seed", seed, "--pretrained", "no"]
        options += ["--lr-schedule", "constant", "--balance", "none", "--server-optimizer", "none"]  # few, long rounds
        malicious = {} if attack == "none" else {workers: ("--attack", attack)}
        rules = [aggregator]
        if malicious and compare and aggregator != "fedavg":
            rules.append("fedavg")
        histories: dict[str, dict[str, Any]] = {}
        for rule in rules:
            title = f"{workers} workers, {rule}" + (f", client{workers} sends {attack} updates" if malicious else "")
            click.echo(f"\n== {title}", err=as_json)
            run_federation(
                folder / rule,
                data=data,
                certs=folder / "certs",
                workers=workers,
                coordinator_options=[*map(str, options), "--aggregator", rule, *_privacy_options(private)],
                worker_options=malicious,
                shows_coordinator=not as_json,
            )
            histories[rule] = json.loads((folder / rule / "history.json").read_text())
        summary = _summary(histories, attack=attack, folder=folder, seconds=time.monotonic() - began)
        if as_json:
            click.echo(json.dumps(summary))
        else:
            _print(summary, malicious=f"client{workers}" if malicious else None)
        if page is not None and sys.stdout.isatty():
            _keep_open(page)


def _make_certificate(certs: Path) -> None:
    """Make the coordinator's, which it would make itself: a page that others reach shows it before."""
    from fednet.security.authority import open_or_create_authority

    now = datetime.now(UTC)
    open_or_create_authority(certs, now=now).ensure_coordinator([], now=now)


def _keep_open(page: subprocess.Popen[str]) -> None:
    click.echo("The dashboard stays until Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        page.wait()


def _check_privacy(asked: ClientPrivacySettings, *, model: str, aggregator: str, workers: int) -> None:
    """Raise `BadInput`, before anything is written, where rule or model do not go with client-level privacy."""
    from fednet.aggregation.private import private_recipe, require_no_buffers
    from fednet.aggregation.rules.registry import recipe_named
    from fednet.commands import wiring

    private_recipe(recipe_named(aggregator), asked, workers=workers)
    if asked.is_on:
        network = wiring.new_model(model, seed=0, pretrained="no", weights=None, notice=lambda text: None)
        require_no_buffers(wiring.manifest_for(network), model=model)


def _privacy_options(asked: ClientPrivacySettings) -> list[str]:
    return [text for name, value in asdict(asked).items() for text in (f"--client-dp-{name}", str(value))]


def _make_data(dataset: Path | None, data: Path, *, workers: int, seed: int, size: int, test_from: str) -> None:
    from data.discovery import find_dataset
    from data.phantoms import phantoms_named, write_phantoms
    from data.splitting import SplitSettings

    if dataset is not None:
        source = find_dataset(dataset)
        name = source.resolve().name
        split_into(data, source, SplitSettings(clients=workers, seed=seed, test_from=test_from, dataset=name))
        return
    training, testing = 360 * workers + 100, 300
    with tempfile.TemporaryDirectory(prefix="fednet-phantoms-") as phantoms:
        write_phantoms(Path(phantoms), training=training, testing=testing, seed=seed, size=size)
        name = phantoms_named(training + testing, size)
        split_into(data, Path(phantoms), SplitSettings(clients=workers, seed=seed, dataset=name))


def split_into(data: Path, source: Path, settings: SplitSettings, *, link: bool = False) -> None:
    """Split the data set in `source` into `data`, without a word unless it fails."""
    from data.discovery import opened_dataset
    from data.images import MAX_BAD_FRACTION
    from data.splitting import inspect, plan, write

    data.mkdir(parents=True, exist_ok=True)
    with opened_dataset(source) as files:
        readable, skipped = inspect(files, max_bad_fraction=MAX_BAD_FRACTION)
        write(plan(readable, skipped, settings), data, link=link, force=False)


def _summary(histories: dict[str, dict[str, Any]], *, attack: str, folder: Path, seconds: float) -> dict[str, Any]:
    return {
        "attack": attack,
        "folder": str(folder),
        "seconds": round(seconds, 1),
        "accuracy": {rule: [each["test"]["accuracy"] for each in h["rounds"]] for rule, h in histories.items()},
        "macro_f1": {rule: [each["test"]["macro_f1"] for each in h["rounds"]] for rule, h in histories.items()},
        "rejected": {
            rule: {
                str(each["round"]): {u["worker"]: u["reason"] for u in each["updates"] if not u["selected"]}
                for each in history["rounds"]
            }
            for rule, history in histories.items()
        },
    }


def _print(summary: dict[str, Any], *, malicious: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Accuracy on the unseen test set, by round")
    table.add_column("aggregated by")
    rules = list(summary["accuracy"])
    for number in range(1, len(summary["accuracy"][rules[0]]) + 1):
        table.add_column(str(number), justify="right")
    for rule in rules:
        table.add_row(rule, *(f"{value:.3f}" for value in summary["accuracy"][rule]))
    Console().print(table)
    if malicious is not None:
        rejected = [number for number, names in summary["rejected"][rules[0]].items() if malicious in names]
        click.echo(
            f"{malicious} sent {summary['attack']} updates: {rules[0]} rejected it in {len(rejected)} of "
            f"{len(summary['accuracy'][rules[0]])} rounds."
        )
        if len(rules) > 1:
            ours, plain = (summary["accuracy"][rule][-1] for rule in rules)
            click.echo(f"Under the same attack {rules[0]} ends at {ours:.3f}, plain averaging (fedavg) at {plain:.3f}.")
    folder = summary["folder"]
    click.echo(f"Took {summary['seconds']:.0f} s. Everything is in {folder}. To look at it:")
    click.echo(f"  python cli.py evaluate --model {folder}/{rules[0]}/final.pth --data {folder}/data/server_data/test")
    click.echo(f"  the whole run as a page: {folder}/{rules[0]}/report.html")
    click.echo(f"  every round, with each worker's verdict: {folder}/{rules[0]}/history.json")
    click.echo(f"  what a hospital saw: {folder}/{rules[0]}/client1.log")
