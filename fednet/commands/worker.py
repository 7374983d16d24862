"""`cli.py worker join`: a hospital takes part in a run."""

from __future__ import annotations

import asyncio
import re
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.computing import computing_options, prepared_device, speed_options
from fednet.commands.consenting import agreed_upon, consent, consent_options, pins_of
from fednet.commands.door import Door, address_of, proxy_for
from fednet.commands.holding_out import holding_out_from, holding_out_options
from fednet.commands.inspecting import inspect
from fednet.commands.logs import start_logging
from fednet.commands.options import (
    cache_options,
    cache_place,
    certs_option,
    device_option,
    log_options,
    max_bad_files_option,
    quiet_option,
)
from fednet.commands.own_certificate import given_files, name_in, own_certificate_options
from fednet.commands.privacy_options import privacy_options, privacy_settings, require_private, site_privacy
from fednet.commands.worker_report import report
from fednet.config import DEFAULT_HOST, DEFAULT_PORT, RunSettings, WorkerName, worker_name
from fednet.errors import REVOKED, BadInput, Refused

if TYPE_CHECKING:
    from fednet.commands.site import Site
    from fednet.reporting.reporter import WorkerReporter
    from fednet.security.tokens import JoinToken
    from fednet.worker.consent import WorkerConsent
    from fednet.worker.service import Worker
    from fednet.worker.workshop import Tamper, Workshop


@click.group("worker")
def command() -> None:
    """Take part in a federation as a hospital."""


command.add_command(consent)
command.add_command(inspect)
command.add_command(report)


@command.command("join")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of scans, one folder per class.")
@click.option("--id", "worker_id", help="This worker's number or name (default: the folder's number, or the token's).")
@click.option("--coordinator", "address", help=f"HOST:PORT (default: the token's, or {DEFAULT_HOST}:{DEFAULT_PORT}).")
@click.option("--proxy", help="HTTP proxy, http://[USER:PASSWORD@]HOST:PORT (default: HTTPS_PROXY); none: never.")
@click.option("--token", help="Join token from the coordinating centre (the first time only).")
@click.option("--save", type=click.Path(path_type=Path), help="Own model's file (default: client_ID.pth).")
@device_option
@speed_options
@computing_options
@certs_option
@own_certificate_options
@max_bad_files_option
@cache_options
@holding_out_options
@privacy_options
@consent_options
@click.option("--num-threads", type=click.IntRange(1), help="CPU threads for training (default: all).")
@click.option(
    "--images-at-once", type=click.IntRange(2), help="Most images computed at once; a step still takes a whole batch."
)
@click.option(
    "--retry-for", type=click.FloatRange(0), default=3600.0, show_default=True, help="Seconds to keep trying."
)
@click.option(
    "--attack",
    metavar="NAME[:KEY=NUMBER,...]",
    help="For demonstrations: send poisoned updates (sign-flip, scaling, noise, zero, nan, inf, free-rider, bn-stats).",
)
@quiet_option
@log_options
def join(
    data: Path,
    worker_id: str | None,
    address: str | None,
    proxy: str | None,
    token: str | None,
    save: Path | None,
    device: str,
    certs: Path,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    max_bad_files: float,
    cache: Path | None,
    no_cache: bool,
    hold_out: float | None,
    share_evaluation: bool,
    num_threads: int | None,
    images_at_once: int | None,
    retry_for: float,
    attack: str | None,
    quiet: bool,
    verbose: bool,
    log_level: str,
    log_format: str,
    **computing: Any,
) -> None:
    """Join, train on --data when asked, save client_ID.pth, send the update, repeat. No scan leaves this machine.

    Under `torchrun --nproc-per-node N cli.py worker join ...` N processes train, each on a GPU of its own.
    """
    import torch

    from data.images import files_of
    from fednet import torchrun
    from fednet.commands.site import Site, help_train
    from fednet.reporting.aside import Aside
    from fednet.reporting.log_lines import LogReporter
    from fednet.reporting.worker_console import WorkerConsole
    from fednet.security.tokens import decode_token
    from fednet.worker.replicas import join_replicas

    start_logging(level=log_level, form=log_format, verbose=verbose, quiet=quiet)
    place = cache_place(cache, no_cache=no_cache)
    holding_out = holding_out_from(hold_out, share_evaluation)
    console = LogReporter() if log_format == "json" else WorkerConsole(quiet=quiet)
    privacy = privacy_settings(computing)
    agreement, agreed = agreed_upon(computing, data=data, shares=share_evaluation, privacy=privacy)
    num_threads = agreement.threads(num_threads)
    chosen = prepared_device(device, computing, notice=console.notice)
    next(files_of(data), None)  # a wrong folder shows before anything is asked of the coordinator
    own = given_files(ca, cert, key, token=token)
    given = decode_token(token) if token else None
    if own is None:
        name = name_of(worker_id, data, given)
    else:
        name = name_in(own, worker_id=None if worker_id is None else name_of(worker_id, data, None))
    host, port = address_of(address, given)
    door = Door(certs, name, host, port, given, proxy=proxy_for(host, port, proxy), given=own, pins=pins_of(agreement))
    replicas = join_replicas(chosen)
    require_private(
        privacy,
        compiles=computing["compiles"],
        mixes=computing["mixes"],
        processes=replicas.size,
        shares_evaluation=share_evaluation,
    )
    if num_threads or replicas.size > 1:
        torch.set_num_threads(num_threads or torchrun.own_threads())
    site = Site(
        data=data,
        device=chosen,
        max_bad_files=max_bad_files,
        cache=place,
        holding_out=holding_out,
        images_at_once=images_at_once,
        privacy=privacy,
        compiles=computing["compiles"],
        mixes=computing["mixes"],
        replicas=replicas,
        quiet=quiet,
    )
    if replicas.rank > 0:
        help_train(site)
        return
    reporter = Aside(console)
    try:
        asyncio.run(
            _join(
                door,
                site,
                save=save or Path(f"client_{name.removeprefix('client')}.pth"),
                consent=agreed,
                retry_for_s=retry_for,
                attack=attack,
                console=reporter,
            )
        )
    finally:
        reporter.close()
        replicas.dismiss()


async def _join(
    door: Door,
    site: Site,
    *,
    save: Path,
    consent: WorkerConsent,
    retry_for_s: float,
    attack: str | None,
    console: WorkerReporter,
) -> None:
    from fednet import torchrun
    from fednet.security.renewal import check_record
    from fednet.simulate.attacks.tamper import tamper_named
    from fednet.storage.journal import Journal
    from fednet.worker.record_log import RecordLog
    from fednet.worker.service import Worker

    tamper = tamper_named(attack, seed=0) if attack else None
    if tamper is not None:
        console.notice(f"this worker is malicious: {attack}")

    def open_workshop(settings: RunSettings, run: str, worker: str) -> Workshop:
        return _open_workshop(settings, run, worker, site=site, save=save, console=console, tamper=tamper)

    def open_log(run: str, worker: str) -> RecordLog:
        journal, check = Journal(save.with_suffix(".audit.jsonl")), partial(check_record, door.credentials)
        return RecordLog(journal, run=run, worker=worker, check_signature=check)

    worker = Worker(
        connect=door.connect,
        open_workshop=open_workshop,
        open_log=open_log,
        consent=consent,
        reporter=console,
        retry_for_s=retry_for_s,
        explain_tls=door.explain,
        is_started_again=torchrun.is_started_again(),
        own_certificate=door.own_certificate,
        advice=door.advice,
    )
    way = f" through {door.proxy}" if door.proxy else ""
    console.notice(f"{door.credentials.name} joins {door.host}:{door.port}{way} with {site.data}{_processes(site)}")
    task = asyncio.ensure_future(_take_part(worker, door, console))
    is_ended_by_torchrun = False

    def stop(number: signal.Signals) -> None:
        nonlocal is_ended_by_torchrun
        is_ended_by_torchrun = number is signal.SIGTERM and site.replicas.size > 1
        worker.is_started_again &= is_ended_by_torchrun
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if site.replicas.lost is not None:
            raise site.replicas.lost from None
        console.notice(_farewell(save, processes=site.replicas.size if is_ended_by_torchrun else 1))
        raise click.exceptions.Exit(130) from None
    console.notice(f"own model: {save}")


async def _take_part(worker: Worker, door: Door, console: WorkerReporter) -> None:
    try:
        await worker.run()
    except Refused as exc:
        if exc.code != REVOKED or not door.drop_revoked():
            raise
        console.notice(f"{exc}; enrolling anew with the token")
        await worker.run()


def _processes(site: Site) -> str:
    return f", in {site.replicas.size} processes" if site.replicas.size > 1 else ""


def _farewell(save: Path, *, processes: int) -> str:
    """Return the last line of a worker that was stopped: by its operator, or as one of `processes` by torchrun."""
    kept = f"; {save} keeps the last trained model" if save.exists() else ""
    if processes == 1:
        return f"left the run{kept}. The same command joins again"
    return (
        f"left the run{kept}. torchrun has ended this process: another of this worker's {processes} processes is gone, "
        "or torchrun itself was stopped; its lines say which. With --max-restarts it starts all of them again"
    )


def _open_workshop(
    settings: RunSettings,
    run: str,
    worker: str,
    *,
    site: Site,
    save: Path,
    console: WorkerReporter,
    tamper: Tamper | None,
) -> Workshop:
    from fednet.commands import wiring
    from fednet.compression.forms import form_named
    from fednet.worker.workshop import Workshop

    opened = site.open(settings, worker=worker, notice=console.notice)
    writer = wiring.CheckpointWriter(settings, wiring.manifest_for(opened.model))
    return Workshop(
        run=run,
        worker=worker,
        model=opened.model,
        data=opened.data,
        compute=opened.compute,
        own_model=wiring.OwnModelFile(save, writer),
        tamper=tamper,
        held_out=opened.held_out,
        update_form=form_named(settings.compress, option="updates of the run"),
        keeps_norm=settings.batch_norm == "local",
        privacy=site_privacy(
            site.privacy,
            beside=save,
            run=run,
            planned=settings,
            data=opened.data,
            model=opened.model,
            notice=console.notice,
        ),
        model_form=form_named(settings.compress_model, option="models of the run", may_round=False),
    )


def name_of(worker_id: str | None, data: Path, token: JoinToken | None) -> WorkerName:
    """Return the worker's name: as asked for, or as the token or the number in the data folder's name says."""
    if worker_id is not None:
        return worker_name(f"client{worker_id}" if worker_id.isdigit() else worker_id)
    if token is not None and token.name is not None:
        return token.name
    found = re.search(r"(\d+)", data.resolve().name)
    if found is None:
        raise BadInput("--id", found=f"none, and no number in {data.name!r}", todo="pass --id 1, say")
    return WorkerName(f"client{found[1]}")
