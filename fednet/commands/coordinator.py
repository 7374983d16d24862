"""`cli.py coordinator start`: serves a run from its first worker to its last round."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.logs import start_logging
from fednet.commands.options import (
    certs_option,
    device_option,
    json_option,
    max_bad_files_option,
    model_options,
    pretrained_option,
    training_options,
    training_settings,
    weights_option,
)
from fednet.config import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    RunId,
    RunSettings,
    automatic_byzantine,
    automatic_quorum,
)
from fednet.errors import BadInput

if TYPE_CHECKING:
    from fednet.coordinator.service import Coordinator
    from fednet.reporting.console import RunConsole


@click.group("coordinator")
def command() -> None:
    """Serve a federation's rounds."""


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
@click.option("--rounds", type=int, default=10, show_default=True, help="How many rounds.")
@click.option("--workers", type=int, default=5, show_default=True, help="How many hospitals; the run starts with all.")
@click.option("--byzantine", default="auto", show_default=True, help="f: how many may be malicious, or auto.")
@click.option("--aggregator", default="multikrum", show_default=True, help="multikrum, krum or fedavg.")
@click.option("--deadline", type=float, default=3600.0, show_default=True, help="Seconds for a round.")
@click.option("--patience", type=float, default=3600.0, show_default=True, help="Seconds below quorum until it parks.")
@click.option("--grace", type=click.FloatRange(0), default=60.0, show_default=True, help="Seconds for a lost worker.")
@click.option("--quorum", type=int, help="Fewest updates for a round (default: two thirds, at least 2f + 3).")
@model_options
@click.option("--local-epochs", type=int, default=1, show_default=True, help="Epochs at a worker, each round.")
@training_options
@pretrained_option
@weights_option
@click.option("--seed", type=int, default=0, show_default=True, help="Decides everything random in the run.")
@device_option
@certs_option
@max_bad_files_option
@click.option("--resume", is_flag=True, help="Continue the run in --run-dir from its last committed round.")
@click.option("--verbose", is_flag=True, help="Log every connection.")
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
    deadline: float,
    patience: float,
    grace: float,
    quorum: int | None,
    model: str,
    image_size: int,
    local_epochs: int,
    batch_size: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    augment: bool,
    pretrained: str,
    weights: Path | None,
    seed: int,
    device: str,
    certs: Path,
    max_bad_files: float,
    resume: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Wait for the workers, train for all rounds, and leave final.pth, best.pth and history.json in the run folder."""
    from data.classes import CLASSES
    from fednet.aggregation.rules.registry import rule_named

    start_logging(verbose=verbose)
    tolerated = _byzantine(byzantine, workers)
    if aggregator == "fedavg":
        tolerated = 0
    rule_named(aggregator)
    settings = RunSettings(
        model=model,
        image_size=image_size,
        classes=CLASSES,
        rounds=rounds,
        workers=workers,
        byzantine=tolerated,
        aggregator=aggregator,
        quorum=quorum if quorum is not None else automatic_quorum(workers, tolerated),
        deadline_s=deadline,
        patience_s=patience,
        seed=seed,
        training=training_settings(
            epochs=local_epochs,
            batch_size=batch_size,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            augment=augment,
        ),
    )
    if resume and run_dir is None:
        raise BadInput("--resume", found="no --run-dir", expected="the folder of the run to continue")
    folder = run_dir or Path("runs") / datetime.now(UTC).strftime("run-%Y%m%d-%H%M%S")
    _serve(
        settings,
        folder=folder,
        data=data,
        address=(host, port),
        public_hosts=public_host,
        certs=certs,
        device_name=device,
        starting=(pretrained, weights),
        grace_s=grace,
        max_bad_files=max_bad_files,
        resume=resume,
        as_json=as_json,
    )


def _byzantine(text: str, workers: int) -> int:
    if text == "auto":
        return automatic_byzantine(workers)
    try:
        return int(text)
    except ValueError as exc:
        raise BadInput("--byzantine", found=text, expected="auto or a number") from exc


def _serve(
    settings: RunSettings,
    *,
    folder: Path,
    data: Path,
    address: tuple[str, int],
    public_hosts: tuple[str, ...],
    certs: Path,
    device_name: str,
    starting: tuple[str, Path | None],
    grace_s: float,
    max_bad_files: float,
    resume: bool,
    as_json: bool,
) -> None:
    from fednet import __version__
    from fednet.commands import wiring
    from fednet.coordinator.record import RunRecord
    from fednet.reporting.console import RunConsole
    from fednet.storage.store import RunStore
    from fednet.tensors import digest_of, pack
    from fednet.worker.device import device_from

    device = device_from(device_name)
    if not resume and (folder / "run.sqlite").exists():
        raise BadInput(f"{folder}", found="a run is there already", todo="add --resume, or choose another --run-dir")
    if resume and not (folder / "run.sqlite").exists():
        raise BadInput(f"{folder}", found="no run there to resume", todo="check --run-dir, or start without --resume")
    console = RunConsole(to_stderr=as_json)
    store: RunStore | None = None
    try:
        network = wiring.new_model(
            settings.model,
            seed=settings.seed,
            pretrained="no" if resume else starting[0],
            weights=None if resume else starting[1],
            notice=console.notice,
        )
        manifest = wiring.manifest_for(network)
        judge = wiring.ServerJudge(
            data,
            model=network,
            manifest=manifest,
            image_size=settings.image_size,
            device=device,
            max_bad_files=max_bad_files,
            notice=console.notice,
        )
        flat = pack(network.state_dict(), manifest)
        writer = wiring.CheckpointWriter(settings, manifest)
        store = RunStore(folder)
        if resume:
            run = _resumed(store, settings)
            committed = store.rounds()
            if committed:
                flat, _ = writer.load(folder / "checkpoints" / committed[-1].checkpoint)
                if digest_of(flat) != committed[-1].model_sha256:
                    raise BadInput(f"{committed[-1].checkpoint}", found="not the model that its round committed")
            else:
                flat, _ = writer.load(folder / "checkpoints" / "round-0000.pth")
            console.notice(f"resuming {run} after round {len(committed)} of {settings.rounds}")
        else:
            run = RunId(secrets.token_hex(8))
            writer.save(folder / "checkpoints" / "round-0000.pth", flat, {"run": run, "round": 0})
            store.begin(run, settings, manifest=manifest.digest, software=f"fednet {__version__}")
        record = RunRecord(run=run, settings=settings, store=store, save=writer.save)

        def build() -> Coordinator:
            from fednet.coordinator.service import Coordinator

            return Coordinator(
                run=run,
                settings=settings,
                manifest=manifest,
                model=flat,
                store=store,
                record=record,
                judge=judge,
                reporter=console,
                device=device,
                grace_s=grace_s,
            )

        asyncio.run(_run(build, settings, console, address=address, public_hosts=public_hosts, certs=certs))
    finally:
        console.close()
        if store is not None:
            store.close()
    _summarise(folder, as_json=as_json)


def _resumed(store: Any, settings: RunSettings) -> RunId:
    run, before, _ = store.run()
    differences = settings.differences(replace(before, rounds=settings.rounds))
    if differences:
        raise BadInput(
            f"--resume of {store.folder}", found="; ".join(differences), expected="the settings the run began with"
        )
    return RunId(run)


async def _run(
    build: Any,
    settings: RunSettings,
    console: RunConsole,
    *,
    address: tuple[str, int],
    public_hosts: tuple[str, ...],
    certs: Path,
) -> None:
    from fednet.security.authority import open_or_create_authority
    from fednet.security.contexts import coordinator_context
    from fednet.security.enrolment import Enroller
    from fednet.security.loopback import LoopbackGrant
    from fednet.security.tokens import TokenLedger
    from fednet.transport.tcp import Listener

    now = datetime.now(UTC)
    authority = open_or_create_authority(certs, now=now)
    hosts = [*public_hosts, *([address[0]] if address[0] not in ("0.0.0.0", "::") else [])]  # noqa: S104 - compared
    authority.ensure_coordinator(hosts, now=now)
    coordinator = build()
    listener = Listener(coordinator_context(certs), coordinator.serve_peer)
    host, port = listener.bind(*address)
    grant = LoopbackGrant(certs, port=port, authority_der=authority.certificate_der)
    coordinator.enroller = Enroller(authority, TokenLedger(certs), [grant])
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, coordinator.stop, f"stopped by {signal.Signals(number).name}")
    grant.leave()
    try:
        console.notice(f"listening on {host}:{port}; {_tolerance(settings)}")
        await coordinator.run(listener)
    finally:
        grant.remove()


def _tolerance(settings: RunSettings) -> str:
    if settings.byzantine == 0:
        return f"{settings.aggregator} of {settings.workers} workers with no Byzantine tolerance (f = 0)"
    return f"{settings.aggregator} of {settings.workers} workers tolerates f = {settings.byzantine} malicious"


def _summarise(folder: Path, *, as_json: bool) -> None:
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
    click.echo(f"every round: {folder / 'history.json'}")
