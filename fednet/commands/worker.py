"""`cli.py worker join`: a hospital takes part in a run."""

from __future__ import annotations

import asyncio
import re
import signal
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.computing import computing_options, prepared_device, speed_options
from fednet.commands.consenting import agreed_upon, consent, consent_options, pins_of
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
)
from fednet.commands.own_certificate import given_files, name_in, own_certificate_options
from fednet.commands.privacy_options import privacy_options, privacy_settings, require_private, site_privacy
from fednet.config import DEFAULT_HOST, DEFAULT_PORT, RunSettings, WorkerName, worker_name
from fednet.errors import REVOKED, BadInput, ConnectionLost, CredentialError, FednetError, Refused
from fednet.protocol.states import State

if TYPE_CHECKING:
    from cryptography import x509

    from fednet.commands.site import Site
    from fednet.protocol.messages import Message
    from fednet.reporting.reporter import WorkerReporter
    from fednet.security.enrolment import Credentials, GivenFiles
    from fednet.security.pinning import Pins
    from fednet.security.renewal import OwnCertificate
    from fednet.security.tokens import JoinToken
    from fednet.transport.link import Link
    from fednet.transport.proxy import Proxy
    from fednet.worker.consent import WorkerConsent
    from fednet.worker.service import Worker
    from fednet.worker.workshop import Tamper, Workshop

_ANSWER_WITHIN_S = 30.0


@click.group("worker")
def command() -> None:
    """Take part in a federation as a hospital."""


command.add_command(consent)
command.add_command(inspect)


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
    from fednet.reporting.console import WorkerConsole
    from fednet.reporting.log_lines import LogReporter
    from fednet.security.tokens import decode_token
    from fednet.worker.replicas import join_replicas

    start_logging(level=log_level, form=log_format, verbose=verbose)
    place = cache_place(cache, no_cache=no_cache)
    holding_out = holding_out_from(hold_out, share_evaluation)
    console = LogReporter() if log_format == "json" else WorkerConsole()
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
    )
    if replicas.rank > 0:
        help_train(site)
        return
    try:
        asyncio.run(
            _join(
                door,
                site,
                save=save or Path(f"client_{name.removeprefix('client')}.pth"),
                consent=agreed,
                retry_for_s=retry_for,
                attack=attack,
                console=console,
            )
        )
    finally:
        replicas.dismiss()


class Door:
    """How this worker gets to its coordinator: enrols where it must, then connects with its certificate."""

    def __init__(
        self,
        certs: Path,
        name: WorkerName,
        host: str,
        port: int,
        token: JoinToken | None,
        *,
        proxy: Proxy | None = None,
        given: GivenFiles | None = None,
        pins: Pins | None = None,
    ) -> None:
        """`given`: a certificate of the site's own authority, in place of one that the coordinator signs.

        `pins`: which coordinators the hospital agrees to, whatever a token says.
        """
        from fednet.security.enrolment import credentials_in

        self.credentials: Credentials = credentials_in(certs, name, given=given)
        self.host, self.port, self.proxy = host, port, proxy
        self._certs = certs
        self._token = token
        self._pins = pins

    async def connect(self) -> Link:
        """Return a link of this worker's own identity. Raises as `fednet.transport.tcp.connect`, or `Refused`."""
        await self.enrol_if_needed()
        return await self.reach()

    async def enrol_if_needed(self) -> None:
        """Get a certificate where there is none that is good. Raises as `connect`."""
        if not self._must_enrol():
            return
        token = self._token or self._loopback_token()
        if token is None:
            raise self._no_token()
        try:
            await self._enrol(token)
        except Refused as exc:
            if self._token is None and exc.code == "token-unknown":  # left by a coordinator that died
                raise ConnectionLost("the coordinator on this machine has just been started again") from exc
            if exc.code == "enrolment-busy":
                raise ConnectionLost(str(exc)) from exc
            raise

    def drop_revoked(self) -> bool:
        """Remove a revoked certificate and its key where there is a token to get others with; return whether so."""
        from fednet.storage import disk

        if self._token is None or self.credentials.given is not None:
            return False
        for path in (self.credentials.certificate_path, self.credentials.key_path):
            disk.unlink(path)
        return True

    async def reach(self, *, begins: State = State.WAITING) -> Link:
        """Return a link with the certificate that there is."""
        from fednet.security.authority import read_certificates
        from fednet.security.contexts import worker_context

        context = worker_context(self.credentials)
        return await self._opened(context, begins, read_certificates(self.credentials.authority_path))

    async def _opened(self, context: ssl.SSLContext, begins: State, authorities: Sequence[x509.Certificate]) -> Link:
        """Return a link to a coordinator that is agreed to, over which nothing has been said yet."""
        from fednet.security.identity import require_coordinator
        from fednet.transport.tcp import connect

        link = await connect(self.host, self.port, context, begins=begins, proxy=self.proxy)
        try:
            require_coordinator(link.certificate, host=self.host)
            if self._pins is not None:
                self._pins.require(link.certificate, authorities)
        except CredentialError:
            link.abort("not a coordinator that was agreed to")
            raise
        return link

    @property
    def own_certificate(self) -> OwnCertificate | None:
        """What renews this worker's certificate; None: it is the site's own, which FedNet cannot renew."""
        from fednet.security.renewal import OwnCertificate

        return None if self.credentials.given else OwnCertificate(self.credentials, lambda: datetime.now(UTC))

    async def renew(self) -> datetime:
        """Renew the certificate over a connection of its own; return when the new one ends.

        Raises as `fednet.transport.tcp.connect`, `Refused`, or `CredentialError` where there is none that is good.
        """
        from fednet.protocol.messages import RenewalRefused, RenewalRequested, Renewed
        from fednet.security.enrolment import are_usable

        own = self.own_certificate
        if own is None or not are_usable(self.credentials, now=datetime.now(UTC)):
            raise self._no_certificate()
        link = await self.reach(begins=State.RENEWING)
        answer = await _answer(link, RenewalRequested(request=await asyncio.to_thread(own.request)), what="renewal")
        if isinstance(answer, RenewalRefused):
            raise Refused(answer.code, answer.reason)
        assert isinstance(answer, Renewed)
        return await asyncio.to_thread(own.store, answer.certificate, answer.authorities)

    def explain(self, exc: ssl.SSLError) -> FednetError:
        """Return what a failed TLS handshake means here."""
        from fednet.security.contexts import explain_tls_failure

        return explain_tls_failure(exc, host=self.host)

    def _must_enrol(self) -> bool:
        from fednet.security.enrolment import are_usable, trusts

        if self.credentials.given is not None:
            return False
        token = self._token or self._loopback_token()
        if token is not None and not trusts(self.credentials, token.authority_der):
            return True
        return not are_usable(self.credentials, now=datetime.now(UTC))

    def _loopback_token(self) -> JoinToken | None:
        from fednet.security.loopback import find_loopback_token, is_loopback

        return find_loopback_token(self._certs, self.port) if is_loopback(self.host) else None

    def _no_token(self) -> FednetError:
        from fednet.security.loopback import is_loopback

        if is_loopback(self.host):
            return ConnectionLost(
                f"no coordinator on this machine has left a token for port {self.port} in {self._certs}"
            )
        return self._no_certificate()

    def _no_certificate(self) -> CredentialError:
        from fednet.security.enrolment import ended_text

        return CredentialError(
            f"no valid certificate of {self.credentials.name} in {self._certs}",
            found=ended_text(self.credentials, now=datetime.now(UTC)),
            todo=f"ask the coordinating centre for `cli.py certs token {self.credentials.name}` and pass it as --token",
        )

    async def _enrol(self, token: JoinToken) -> None:
        from fednet.protocol.messages import Enrolled, EnrolRequested
        from fednet.security.contexts import enrolment_context
        from fednet.security.enrolment import make_request, store_certificate
        from fednet.security.identity import load_certificate

        name = self.credentials.name
        context = enrolment_context(token.authority_der)
        link = await self._opened(context, State.ENROLLING, [load_certificate(token.authority_der)])
        request = EnrolRequested(name=name, secret=token.secret, request=make_request(self.credentials))
        answer = await _answer(link, request, what="enrolment")
        assert isinstance(answer, Enrolled)
        store_certificate(self.credentials, answer.certificate, token.authority_der)


async def _answer(link: Link, question: Message, *, what: str) -> Message:
    """Return the one answer for which a link was opened, and end it; raises `Refused` for a goodbye in its place."""
    from fednet.protocol.messages import Goodbye

    try:
        link.send(question)
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            answer = await link.receive()
    except TimeoutError as exc:
        raise ConnectionLost(f"{link.peer} did not answer the {what} within {_ANSWER_WITHIN_S:.0f} s") from exc
    finally:
        link.abort(f"{what} is done")
    if isinstance(answer, Goodbye):
        raise Refused(answer.code, answer.reason)
    return answer


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
    )
    way = f" through {door.proxy}" if door.proxy else ""
    console.notice(f"{door.credentials.name} joins {door.host}:{door.port}{way} with {site.data}{_processes(site)}")
    task = asyncio.ensure_future(_take_part(worker, door, console))

    def stop(is_started_again: bool) -> None:
        worker.is_started_again = is_started_again
        task.cancel()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop, False)
    loop.add_signal_handler(signal.SIGTERM, stop, torchrun.is_started_again())  # torchrun's, where a process has ended
    try:
        await task
    except asyncio.CancelledError:
        if site.replicas.lost is not None:
            raise site.replicas.lost from None
        console.notice(_farewell(save))
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


def _farewell(save: Path) -> str:
    kept = f"; {save} keeps the last trained model" if save.exists() else ""
    return f"left the run{kept}. The same command joins again"


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


def proxy_for(host: str, port: int, option: str | None) -> Proxy | None:
    """Return the proxy to go through: the option's, or that of HTTPS_PROXY unless NO_PROXY or this machine is meant."""
    import urllib.request

    from fednet.security.loopback import is_loopback
    from fednet.transport.proxy import proxy_from

    if option is not None:
        return None if option == "none" else proxy_from(option)
    found = urllib.request.getproxies_environment().get("https")
    if not found or is_loopback(host) or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    try:
        return proxy_from(found)
    except BadInput as exc:
        raise BadInput("HTTPS_PROXY", expected=exc.expected, todo="correct it, or --proxy none goes without") from exc


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


def address_of(text: str | None, token: JoinToken | None) -> tuple[str, int]:
    """Return (host, port) of the coordinator: as asked for, or as the token says; raises `BadInput`."""
    if text is None:
        return (token.host, token.port) if token else (DEFAULT_HOST, DEFAULT_PORT)
    host, colon, port = text.rpartition(":")
    is_bare_ipv6 = host.count(":") >= 1 and not host.startswith("[")
    if not colon or is_bare_ipv6 or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536 or not host:
        raise BadInput(
            f"--coordinator {text}", expected="HOST or HOST:PORT, such as 10.0.0.5:7733 or [2001:db8::5]:7733"
        )
    return host.strip("[]"), int(port)
