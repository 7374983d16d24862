"""`cli.py coordinator start`: serves a run from its first worker to its last round."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.beside import TOKEN_FILE, dashboard_beside, dashboard_option
from fednet.commands.computing import computing_options, prepared_device
from fednet.commands.logs import start_logging
from fednet.commands.options import (
    AUTO,
    aggregator_option,
    cache_options,
    cache_place,
    certs_option,
    client_privacy_options,
    client_privacy_settings,
    compress_option,
    device_option,
    json_option,
    kept_options,
    learning_options,
    learning_settings,
    log_options,
    max_bad_files_option,
    model_options,
    pre_option,
    pretrained_option,
    quiet_option,
    rounds_option,
    training_options,
    watch_options,
    weights_option,
)
from fednet.commands.passphrases import authority_passphrase, passphrase_file_option
from fednet.config import DEFAULT_HOST, DEFAULT_PORT, RunSettings, automatic_byzantine, automatic_quorum
from fednet.errors import BadInput
from fednet.protocol import limits

if TYPE_CHECKING:
    from fednet.aggregation.recipe import Recipe
    from fednet.reporting.event_files import EventFiles
    from fednet.reporting.reporter import RunReporter


@click.group("coordinator")
def command() -> None:
    """Serve a federation's rounds, and see how they stand."""


@command.command("start")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("server_data"),
    show_default=True,
    help="Folder with validation/ and test/, which no worker has seen.",
)
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="Port; 0: any.")
@click.option("--public-host", multiple=True, help="A name or address that workers use; goes into the certificate.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="Folder of the run (default: runs/ and the time).")
@rounds_option("How many rounds.")
@click.option("--workers", type=int, default=5, show_default=True, help="How many hospitals; the run starts with all.")
@click.option("--byzantine", default="auto", show_default=True, help="f: how many may be malicious, or auto.")
@aggregator_option
@pre_option
@click.option("--window", type=int, default=5, show_default=True, help="Rounds that a worker's reputation looks back.")
@click.option("--quarantine", type=int, default=0, show_default=True, help="Rejections in them that shut out; 0: none.")
@click.option("--deadline", type=float, default=3600.0, show_default=True, help="Seconds for a round.")
@click.option("--patience", type=float, default=3600.0, show_default=True, help="Seconds below quorum until it parks.")
@click.option("--grace", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds for a lost worker.")
@click.option("--quorum", type=int, help="Fewest updates for a round (default: two thirds, at least 2f + 3).")
@compress_option
@click.option("--compress-model", default="none", show_default=True, help="How global models travel: none or zstd.")
@model_options
@training_options
@learning_options
@client_privacy_options
@watch_options
@pretrained_option
@weights_option
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random in the run.")
@device_option
@computing_options
@certs_option
@passphrase_file_option
@max_bad_files_option
@cache_options
@click.option(
    "--unidentified",
    type=click.IntRange(1, 10_000),
    default=limits.MAX_UNAUTHENTICATED,
    show_default=True,
    help="Most connections that have not said who they are.",
)
@click.option(
    "--per-address",
    type=click.IntRange(1, 10_000),
    default=limits.MAX_UNAUTHENTICATED_PER_ADDRESS,
    show_default=True,
    help="Most of them from one address: hospitals behind one firewall share it.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --run-dir where it stopped, within a round too.")
@click.option("--resume-if-any", is_flag=True, help="For services: --resume where a run is there, else begin one.")
@click.option(
    "--keep-checkpoints",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Rounds whose model stays on disk, beside the first and the best; 0: all.",
)
@click.option("--keep-updates", is_flag=True, help="Keep each round's updates: `runs verify --replay` needs them.")
@click.option("--report-each-round", is_flag=True, help="Write report.html after each round, not only in the end.")
@click.option("--tensorboard", is_flag=True, help="Write curves for TensorBoard into the run's folder.")
@dashboard_option
@quiet_option
@log_options
@json_option
def start(
    data: Path,
    host: str,
    port: int,
    public_host: tuple[str, ...],
    run_dir: Path | None,
    rounds: int,
    workers: int,
    byzantine: str,
    aggregator: str,
    pre: tuple[str, ...],
    window: int,
    quarantine: int,
    deadline: float,
    patience: float,
    grace: float,
    quorum: int | None,
    compress: str,
    compress_model: str,
    model: str,
    image_size: int,
    pretrained: str,
    weights: Path | None,
    seed: int,
    device: str,
    certs: Path,
    passphrase_file: Path | None,
    max_bad_files: float,
    cache: Path | None,
    no_cache: bool,
    unidentified: int,
    per_address: int,
    resume: bool,
    resume_if_any: bool,
    keep_checkpoints: int,
    keep_updates: bool,
    report_each_round: bool,
    tensorboard: bool,
    dashboard: str | None,
    quiet: bool,
    verbose: bool,
    log_level: str,
    log_format: str,
    as_json: bool,
    **learning: Any,
) -> None:
    """Wait for the workers, train for all rounds, and leave final.pth, best.pth and history.json in the run folder."""
    from data.classes import CLASSES
    from fednet.aggregation.private import private_recipe
    from fednet.aggregation.rules.registry import recipe_named
    from fednet.commands.reporting import ReportEachRound, report_at_end
    from fednet.commands.serving import ServingOptions, certify, serve_run
    from fednet.compression.forms import form_named
    from fednet.coordinator.privacy_ledger import planned
    from fednet.coordinator.record import Retention
    from fednet.reporting.aside import Aside
    from fednet.reporting.console import RunConsole
    from fednet.reporting.log_lines import LogReporter
    from fednet.reporting.reporter import Together
    from fednet.storage.history import commit_times, rounds_after
    from fednet.storage.store import has_run, settings_in

    start_logging(level=log_level, form=log_format, verbose=verbose, quiet=quiet)
    place = cache_place(cache, no_cache=no_cache)
    if run_dir is None and (resume or resume_if_any):
        raise BadInput("--resume", found="no --run-dir", expected="the folder of the run to continue")
    passphrase = authority_passphrase(passphrase_file)
    begun = settings_in(run_dir) if run_dir is not None else None
    if begun is not None and run_dir is not None and not resume:
        resume = resume_if_any or _offers_to_resume(run_dir)
    if resume and begun is not None:  # how a run learns is its own: defaults change between versions
        own = kept_options(begun, learning)
        rounds = own.pop("rounds", rounds)
        learning |= own
    privacy = client_privacy_settings(learning)
    if aggregator == AUTO and resume and begun is not None:
        aggregator, pre = begun.aggregator, begun.pre
    elif aggregator == AUTO:  # under client-level privacy what can be noised least
        aggregator, pre = ("fedavg", pre) if privacy.is_on else automatic_recipe(data, pre)
    recipe = private_recipe(recipe_named(aggregator, pre), privacy, workers=workers)
    form_named(compress, option="--compress")
    form_named(compress_model, option="--compress-model", may_round=False)
    tolerated = _byzantine(byzantine, workers=workers, recipe=recipe)
    settings = RunSettings(
        model=model,
        image_size=image_size,
        classes=CLASSES,
        rounds=rounds,
        workers=workers,
        byzantine=tolerated,
        aggregator=aggregator,
        pre=pre,
        reputation_window=window,
        quarantine=quarantine,
        quorum=_quorum(quorum, workers=workers, byzantine=tolerated, recipe=recipe),
        deadline_s=deadline,
        patience_s=patience,
        seed=seed,
        compress=compress,
        compress_model=compress_model,
        **learning_settings(learning, rounds=rounds, is_private=privacy.is_on),
        guard=learning.pop("guard"),
        early_stop=learning.pop("early_stop"),
        client_privacy=privacy,
    )
    settings = planned(settings)
    if run_dir is None:
        run_dir = _unfinished_like(settings, Path("runs"))
        resume = run_dir is not None
    folder = run_dir or Path("runs") / datetime.now(UTC).strftime("run-%Y%m%d-%H%M%S")
    options = ServingOptions(
        folder=folder,
        data=data,
        host=host,
        port=port,
        public_hosts=public_host,
        certs=certs,
        device=device,
        pretrained=pretrained,
        weights=weights,
        grace_s=grace,
        max_bad_files=max_bad_files,
        cache=place,
        unidentified=unidentified,
        per_address=per_address,
        resume=resume,
        needs_root=recipe.rule.needs_root,
        retention=Retention(checkpoints=keep_checkpoints, updates=keep_updates),
        quiet=quiet,
        passphrase=passphrase,
    )
    is_first = int(os.environ.get("RANK", "0")) == 0  # of torchrun's processes the first one serves
    goes_on = resume and has_run(folder)
    console: RunReporter = LogReporter()
    if log_format != "json":
        earlier = rounds_after(folder, 0) if goes_on else ()
        console = RunConsole(quiet=quiet, to_stderr=as_json, rounds=settings.rounds, earlier=earlier)
    console = Aside(console)
    if settings.rounds < rounds:
        console.notice(f"--client-dp-epsilon {privacy.epsilon:g} allows {settings.rounds} of {rounds} rounds")
    before = begun.rounds if goes_on and begun is not None else settings.rounds
    if before != settings.rounds and settings.lr_schedule != "constant" and commit_times(folder):
        console.notice(
            f"Warning: from here on the learning rate's {settings.lr_schedule} schedule is that of {settings.rounds} "
            f"rounds, not of {before}: it may leap"
        )
    if tensorboard and is_first:
        console = Together(console, _event_files(folder, goes_on=goes_on))
    if report_each_round and is_first:
        console = Together(console, ReportEachRound(folder, certs=certs))
    with contextlib.ExitStack() as stack:
        if is_first:
            stack.enter_context(report_at_end(folder, certs=certs))
        stack.callback(console.close)
        if dashboard is not None and is_first:
            certify(options)  # the page shows the certificate, and its names
            is_log = quiet or log_format == "json" or not (sys.stderr if as_json else sys.stdout).isatty()
            kept = folder / TOKEN_FILE if is_log else None  # logs hold no token
            page = dashboard_beside(folder, dashboard, certs=certs, notice=console.notice, token_file=kept)
            stack.enter_context(page)
        prepared_device(device, learning, notice=console.notice)
        serve_run(settings, options, console)
    if is_first and (as_json or not quiet):
        _summarise(folder, as_json=as_json)


@command.command("status")
@click.option("--run-dir", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@json_option
def status(run_dir: Path, as_json: bool) -> None:
    """Say how a run stands; exit code 0 while it is served or has finished, 1 where somebody must look."""
    from fednet.reporting.status import standing_of
    from fednet.storage.history import readable

    with readable(f"run {run_dir}"):
        found = standing_of(run_dir, now=datetime.now(UTC))
    click.echo(json.dumps(found.document) if as_json else found.text)
    if not found.is_healthy:
        raise click.exceptions.Exit(1)


def _event_files(folder: Path, *, goes_on: bool) -> EventFiles:
    """Return what writes a run's curves for TensorBoard; raises `BadInput` where its package is not installed."""
    from importlib.util import find_spec

    from fednet.reporting.event_files import EventFiles
    from fednet.storage.history import commit_times, rounds_after

    if find_spec("tensorboard") is None:
        raise BadInput("--tensorboard", found="no package tensorboard", todo="`pip install -r requirements.txt`")
    times = commit_times(folder) if goes_on else {}
    earlier = ((document, times[document["round"]]) for document in (rounds_after(folder, 0) if goes_on else ()))
    return EventFiles(folder / "tensorboard", earlier=earlier)


def _offers_to_resume(folder: Path) -> bool:
    """Ask the person at the terminal whether the run that is in this folder goes on; with nobody there, do not."""
    if not sys.stdin.isatty():
        return False
    return click.confirm(f"{folder} holds a run already. Go on with it?", default=True, err=True)


def _unfinished_like(settings: RunSettings, runs: Path) -> Path | None:
    """Return the last run with these settings that stopped before its end, if the person there wants to go on."""
    from fednet.storage.history import stopped_with

    found = stopped_with(settings, runs)
    if found is None:
        return None
    done = f"{found.folder} stopped after {len(found.rounds)} of {settings.rounds} rounds of the same run"
    if sys.stdin.isatty():
        return found.folder if click.confirm(f"{done}. Go on with it?", default=True, err=True) else None
    click.echo(f"{done}; --resume --run-dir {found.folder} would go on with it. This is a new run", err=True)
    return None


def automatic_recipe(data: Path, pre: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return (rule, what goes before it) that `--aggregator auto` means: what the README's table of attacks favours.

    With a root of trust the tournament; without one, Multi-Krum behind NNM, or behind what was asked for.
    """
    return ("tournament", ()) if (data / "root").is_dir() and not pre else ("multikrum", pre or ("nnm",))


def _byzantine(text: str, *, workers: int, recipe: Recipe) -> int:
    """Return f; `auto` is the largest usual one that the recipe's own condition allows."""
    if text == "auto":
        return recipe.tolerated(workers, most=automatic_byzantine(workers)) if recipe.rule.tolerates else 0
    if not text.isdigit():
        raise BadInput("--byzantine", found=text, expected="auto, or a number from 0")
    byzantine = int(text)
    if byzantine and not recipe.rule.tolerates:
        raise BadInput(f"--byzantine {text}", found=f"{recipe.name}, which tolerates nobody", todo="choose multikrum")
    if recipe.shortfall(workers, byzantine):
        raise BadInput(
            f"--byzantine {text}",
            found=f"{workers} workers",
            expected=f"at least {recipe.fewest(byzantine)} workers: the condition of {recipe.name} for f = {byzantine}",
            todo="raise --workers or lower --byzantine",
        )
    return byzantine


def _quorum(asked: int | None, *, workers: int, byzantine: int, recipe: Recipe) -> int:
    fewest = recipe.fewest(byzantine)
    if asked is None:
        return max(automatic_quorum(workers, byzantine), fewest)
    if asked < fewest:
        raise BadInput(
            "--quorum", found=str(asked), expected=f"at least {fewest}: {recipe.shortfall(asked, byzantine)}"
        )
    return asked


def _summarise(folder: Path, *, as_json: bool) -> None:
    from fednet.commands.report import REPORT

    history = json.loads((folder / "history.json").read_text())
    if as_json:
        click.echo(json.dumps(history))
        return
    last, best = history["rounds"][-1], history["rounds"][history["best_round"] - 1]
    for name, document, file in (("last", last, "final.pth"), ("best by validation", best, "best.pth")):
        test = document["test"]
        click.echo(
            f"{name}: round {document['round']}, test accuracy {test['accuracy']:.3f}, macro F1 {test['macro_f1']:.3f}"
            f" -> {folder / file}"
        )
    for each in history["standings"]:
        counted = each["rounds"] - each["rejected"]
        click.echo(
            f"{each['worker']}: counted in {counted} of {each['rounds']} rounds, mean weight {each['mean_weight']:.2f}"
        )
    click.echo(f"every round: {folder / 'history.json'}; what the models are: {folder / 'final.card.md'}, best.card.md")
    if (folder / REPORT).is_file():
        click.echo(f"to look at and to mail: {folder / REPORT}")
