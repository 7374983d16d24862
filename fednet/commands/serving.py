"""Builds a coordinator out of its options and serves one run: what `coordinator start` does."""

from __future__ import annotations

import asyncio
import secrets
import signal
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from data.cache import CachePlace
from fednet.aggregation.batch_norm import require_batch_norm
from fednet.aggregation.private import require_no_buffers
from fednet.aggregation.server_optimizer import FRESH, ServerState
from fednet.aggregation.team import Team
from fednet.commands import wiring
from fednet.config import ALL_ADDRESSES, RESUMABLE, RunId, RunSettings
from fednet.coordinator.aggregator import TrustIn, help_aggregate
from fednet.coordinator.crew import dismiss, join_team
from fednet.coordinator.gatekeeper import Gate, Gatekeeper, open_gate
from fednet.coordinator.handover import Handover
from fednet.coordinator.privacy_ledger import CentreLedger, promise, require_affordable
from fednet.coordinator.record import Retention, RunRecord
from fednet.coordinator.service import Coordinator
from fednet.errors import BadInput
from fednet.reporting.reporter import RunReporter
from fednet.reporting.status import StatusFile
from fednet.security.authority import (
    has_authority,
    hosts_of,
    open_authority,
    open_or_create_authority,
    read_certificate,
)
from fednet.security.enrolment import Enroller
from fednet.security.loopback import LoopbackGrant
from fednet.security.revocation import RevocationLedger
from fednet.security.signing import RecordSigner
from fednet.security.tokens import TokenLedger
from fednet.storage.seal import break_seal, seal_run
from fednet.storage.store import RunStore, checkpoint_name, has_run
from fednet.storage.sweep import sweep
from fednet.tensors import Manifest, digest_of, pack
from fednet.transport.admission import Admission
from fednet.transport.capacity import allow_workers
from fednet.transport.tcp import Listener
from fednet.worker.device import device_from
from fednet.worker.objective import require_trainable


@dataclass(frozen=True, kw_only=True)
class ServingOptions:
    """Everything about serving a run that does not decide what it computes."""

    folder: Path
    data: Path
    host: str
    port: int
    public_hosts: tuple[str, ...]
    certs: Path
    device: str
    pretrained: str
    weights: Path | None
    grace_s: float
    max_bad_files: float
    cache: CachePlace
    unidentified: int
    per_address: int
    resume: bool
    needs_root: bool  # the aggregation asks for a root of trust
    retention: Retention
    quiet: bool = False  # no bar while scans are read
    passphrase: bytes | None = field(default=None, repr=False)  # of the authority's key; never in a log


def serve_run(settings: RunSettings, options: ServingOptions, console: RunReporter) -> None:
    """Serve a run, new or resumed, until it has finished. Raises `BadInput` before anything is written.

    Of several processes under torchrun the first serves, the others help it aggregate.
    """
    device = device_from(options.device)
    team = join_team()
    if team.rank > 0:
        network = wiring.new_model(settings.model, seed=0, pretrained="no", weights=None, notice=console.notice)
        help_aggregate(team, manifest=wiring.manifest_for(network), settings=settings, device=device)
        return
    try:
        _serve_first(settings, options, console, device, team)
    finally:
        dismiss(team)


def certify(options: ServingOptions) -> None:
    """Make authority and coordinator's certificate, where they lack or must be renewed; not for a wrong run folder."""
    _check_folder(options)
    now = datetime.now(UTC)
    authority = open_or_create_authority(options.certs, now=now, passphrase=options.passphrase)
    authority.ensure_coordinator(_certified_hosts(options), now=now)


def _serve_first(
    settings: RunSettings, options: ServingOptions, console: RunReporter, device: torch.device, team: Team
) -> None:
    _check_folder(options)
    if has_authority(options.certs):
        open_authority(options.certs, passphrase=options.passphrase)  # a wrong passphrase shows before scans are read
    network = wiring.new_model(
        settings.model,
        seed=settings.seed,
        pretrained="no" if options.resume else options.pretrained,
        weights=None if options.resume else options.weights,
        notice=console.notice,
    )
    require_trainable(network, settings.training)
    require_batch_norm(network, name=settings.model, asked=settings.batch_norm)
    manifest = wiring.manifest_for(network)
    if settings.client_privacy.is_on:
        require_no_buffers(manifest, model=settings.model)
        require_affordable(settings)
        console.notice(promise(settings))
    flat = pack(network.state_dict(), manifest)
    judge = wiring.ServerJudge(
        options.data,
        model=network,
        manifest=manifest,
        image_size=settings.image_size,
        device=device,
        max_bad_files=options.max_bad_files,
        notice=console.notice,
        cache=options.cache,
        quiet=options.quiet,
    )
    trust_in: TrustIn | None = None
    if options.needs_root:
        trust_in = wiring.root_of_trust(
            options.data,
            settings=settings,
            manifest=manifest,
            device=device,
            max_bad_files=options.max_bad_files,
            notice=console.notice,
            cache=options.cache,
            quiet=options.quiet,
        )
    if not allow_workers(settings.workers):
        console.notice(f"Warning: this system allows too few open files for {settings.workers} workers (`ulimit -n`)")
    certify(options)
    gate = open_gate(options.certs, _certified_hosts(options), now=datetime.now(UTC), passphrase=options.passphrase)
    listener = Listener(Admission(most=options.unidentified, most_per_address=options.per_address))
    address = listener.bind(options.host, options.port)
    store: RunStore | None = None
    try:
        store = RunStore(options.folder)
        asyncio.run(
            _serve(
                settings,
                options,
                console,
                listener,
                address,
                store,
                gate,
                manifest,
                flat,
                judge,
                device,
                trust_in,
                team,
            )
        )
        seal_run(store, RecordSigner(options.certs))
    finally:
        listener.close()
        if store is not None:
            store.close()


def _check_folder(options: ServingOptions) -> None:
    exists = has_run(options.folder)
    if exists and not options.resume:
        raise BadInput(f"{options.folder}", found="a run is there already", todo="add --resume, or another --run-dir")
    if options.resume and not exists:
        raise BadInput(f"{options.folder}", found="no run there to resume", todo="check --run-dir")


async def _serve(
    settings: RunSettings,
    options: ServingOptions,
    console: RunReporter,
    listener: Listener,
    address: tuple[str, int],
    store: RunStore,
    gate: Gate,
    manifest: Manifest,
    flat: torch.Tensor,
    judge: wiring.ServerJudge,
    device: torch.device,
    trust_in: TrustIn | None,
    team: Team,
) -> None:
    writer = wiring.CheckpointWriter(settings, manifest)
    run = _run_to_resume(store, settings) if options.resume else RunId(secrets.token_hex(8))
    record = RunRecord(
        run=run,
        settings=settings,
        store=store,
        save=writer.save,
        signer=gate.signer,
        software=wiring.software(),
        retention=options.retention,
        hand_on=Handover(
            load=lambda path: writer.load(path)[0],
            save=writer.save,
            examine=judge.examine,
            notice=console.notice,
            split=judge.split_record(),
        ),
    )
    server = FRESH
    if options.resume:
        break_seal(options.folder)
        flat, server = _resume(store, record, writer, options, console)
        if settings.client_privacy.is_on and not record.rounds:
            CentreLedger(settings, store).require_room()
    else:
        record.begin(flat, manifest=manifest.digest)
    coordinator = Coordinator(
        run=run,
        settings=settings,
        manifest=manifest,
        model=flat,
        store=store,
        record=record,
        judge=judge,
        reporter=console,
        device=device,
        grace_s=options.grace_s,
        trust_in=trust_in,
        refit=judge.refit if settings.batch_norm == "reestimated" else None,
        server=server,
        team=team,
        keeps_updates=options.retention.updates,
        show_status=StatusFile(options.folder).show,
        revocations=RevocationLedger(options.certs).current,
    )
    grant = LoopbackGrant(options.certs, port=address[1], authority_der=gate.authority.certificate_der)
    enroller = coordinator.reception.enroller = Enroller(gate.authority, TokenLedger(options.certs), [grant])
    gatekeeper = Gatekeeper(
        options.certs,
        gate,
        lambda: open_gate(
            options.certs, _hosts_now(options.certs), now=datetime.now(UTC), passphrase=options.passphrase
        ),
        listener=listener,
        reception=coordinator.reception,
        record=record,
        enroller=enroller,
        grant=grant,
        notice=console.notice,
    )
    gatekeeper.open()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, coordinator.stop, f"stopped by {signal.Signals(number).name}")
    grant.leave()
    try:
        console.notice(f"listening on {address[0]}:{address[1]}; {_tolerance(settings)}")
        await coordinator.run(gatekeeper)
    finally:
        grant.remove()


def _run_to_resume(store: RunStore, settings: RunSettings) -> RunId:
    run, before, _ = store.run()
    differences = settings.differences(replace(before, **{name: getattr(settings, name) for name in RESUMABLE}))
    if differences:
        raise BadInput(f"--resume of {store.folder}", found="; ".join(differences), expected="the run's own settings")
    return run


def _resume(
    store: RunStore, record: RunRecord, writer: wiring.CheckpointWriter, options: ServingOptions, console: RunReporter
) -> tuple[torch.Tensor, ServerState]:
    """Return what to go on from; says what the folder lacks, and clears what a crash left over."""
    for missing in sweep(store, keeps_updates=options.retention.updates):
        console.notice(f"Warning: {missing}")
    committed = record.rounds
    flat, server = writer.load_server(store.folder / "checkpoints" / checkpoint_name(len(committed)))
    if committed and digest_of(flat) != committed[-1].model_sha256:
        raise BadInput(committed[-1].checkpoint, found="not the model that its round committed")
    if server.moments and server.digest != committed[-1].document["server_sha256"]:
        raise BadInput(committed[-1].checkpoint, found="not the optimiser's state that its round committed")
    record.resume(flat)
    console.notice(f"resuming {store.folder} after round {len(committed)}")
    return flat, server


def _certified_hosts(options: ServingOptions) -> list[str]:
    own = [] if options.host in ALL_ADDRESSES else [options.host]
    return [*options.public_hosts, *own]


def _hosts_now(certs: Path) -> list[str]:
    """Return the hosts that the coordinator's certificate is for: `certs renew coordinator` may have added some."""
    return hosts_of(read_certificate(certs / "coordinator" / "cert.pem"))


def _tolerance(settings: RunSettings) -> str:
    if settings.byzantine == 0:
        return f"{settings.recipe_name} of {settings.workers} workers with no Byzantine tolerance (f = 0)"
    return f"{settings.recipe_name} of {settings.workers} workers tolerates f = {settings.byzantine} malicious"
