"""The worker: keeps a connection to the coordinator and carries out what the pure session decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable

import torch

from fednet import __version__
from fednet.compression.forms import FEATURES
from fednet.config import RunSettings, TrainingSettings, run_settings_from
from fednet.errors import DECLINED, ConnectionLost, FednetError, ProcessLost, Refused, RemoteProtocolError
from fednet.failpoints import reached_state
from fednet.protocol.messages import (
    ChunksReceived,
    Goodbye,
    Hello,
    ModelWanted,
    Progress,
    Ready,
    RenewalRefused,
    Renewed,
    RoundStarted,
    Welcome,
)
from fednet.reporting.reporter import Transfer, WorkerReporter
from fednet.tensors import bytes_of
from fednet.transport.intake import Intake
from fednet.transport.link import Link
from fednet.worker.circumstances import circumstances_of
from fednet.worker.consent import Circumstances, WorkerConsent
from fednet.worker.progress import TrainingProgress
from fednet.worker.record_log import RecordLog
from fednet.worker.renewing import OwnCertificate, Renewing
from fednet.worker.session import (
    BeginTask,
    Command,
    DropTask,
    Event,
    Heard,
    KeepAcknowledged,
    KeepHeader,
    KeepOffered,
    KeepRecord,
    KeepWithdrawn,
    Leave,
    LinkLost,
    LookedAgain,
    ModelReceived,
    ReceiveModel,
    Send,
    SendUpdate,
    SessionEnded,
    ShowNotice,
    ShowRound,
    Stage,
    StopReceiving,
    Train,
    WorkerSession,
)
from fednet.worker.workshop import Workshop

log = logging.getLogger("fednet.worker")

WELCOME_TIMEOUT_S = 60.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
LOOK_AGAIN_S = 30.0  # how often it is looked whether a round that was declined for the hour may begin after all
SHOW_EVERY_S = 1.0  # a transfer that is under way
_SOON_RETRY_S = 3.0  # while it has not been away for long: a restart takes seconds
_COMES_BACK = ("parked", "failed", "too-slow")
"""Goodbyes of a coordinator that stopped, or that lost patience with the link: worth trying again."""

Connect = Callable[[], Awaitable[Link]]
OpenWorkshop = Callable[[RunSettings, str, str], Workshop]
"""Builds model and data for (settings, run id, worker name); slow, so it runs in a thread; raises `BadInput`."""
OpenLog = Callable[[str, str], RecordLog]
"""Opens this hospital's log for (run id, worker name); runs in a thread; raises `StorageError` or `AuditError`."""
LookAround = Callable[[torch.device], Circumstances]
"""Says what this machine is like at this moment, for a worker that trains on the device; quick."""


class Worker:
    """One hospital's part in a run, over as many connections as it takes."""

    def __init__(
        self,
        *,
        connect: Connect,
        open_workshop: OpenWorkshop,
        open_log: OpenLog,
        consent: WorkerConsent,
        reporter: WorkerReporter,
        retry_for_s: float,
        explain_tls: Callable[[ssl.SSLError], FednetError],
        is_started_again: bool = False,
        look_around: LookAround = circumstances_of,
        own_certificate: OwnCertificate | None = None,
        advice: Callable[[str], str] = lambda told: "",
    ) -> None:
        """`is_started_again`: something starts this worker again where one of its processes ends (`torchrun`).

        `own_certificate`: the one that is kept from ending; None: somebody else sees to it. `advice`: given the digest
        of the authorities that the coordinator trusts, what people must see to, or ""; runs in a thread.
        """
        self.is_started_again = is_started_again
        self._connect = connect
        self._open_workshop = open_workshop
        self._open_log = open_log
        self._consent = consent
        self._look_around = look_around
        self._own_certificate = own_certificate
        self._advice, self._advised = advice, ""
        self._reporter = reporter
        self._retry_for_s = retry_for_s
        self._explain_tls = explain_tls
        self._run = ""
        self._was_welcomed = False
        self._workshop: Workshop | None = None
        self._session: WorkerSession | None = None
        self._log: RecordLog | None = None
        self._link: Link | None = None
        self._intake: Intake | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._receives = self._sends = 0  # which transfer
        self._training: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()

    async def run(self) -> None:
        """Take part until the run has finished.

        Raises `Refused` when the coordinator does not let this worker take part, `ConnectionLost` when it cannot be
        reached for `retry_for_s`, `TrainingError` or `StorageError` when this side fails. When cancelled it says
        goodbye.
        """
        try:
            await self._keep_connected()
        except asyncio.CancelledError:
            await self._say_goodbye("restarts" if self.is_started_again else "left", "stopped by its operator")
            raise
        except ProcessLost as exc:
            await self._say_goodbye("restarts" if self.is_started_again else "failed", str(exc))
            raise
        except FednetError as exc:
            is_declined = isinstance(exc, Refused) and exc.code == DECLINED
            await self._say_goodbye(DECLINED if is_declined else "failed", str(exc))
            raise
        finally:
            await self._stop_training()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        last_contact, delay_s = loop.time(), FIRST_RETRY_S
        while True:
            try:
                self._link = await self._connect()
                ended = await self._serve(self._link)
                last_contact, delay_s = loop.time(), FIRST_RETRY_S
                if self._is_final(ended):
                    return
                trouble = f"the coordinator stopped ({ended.reason})"
            except ssl.SSLError as exc:
                raise self._explain_tls(exc) from exc
            except ConnectionLost as exc:
                if isinstance(exc.__cause__, ssl.SSLError):  # TLS 1.3: a rejection shows only after our handshake
                    raise self._explain_tls(exc.__cause__) from exc
                if self._was_welcomed:
                    last_contact, delay_s = loop.time(), FIRST_RETRY_S
                trouble = str(exc)
            finally:
                await self._detach()
            if loop.time() - last_contact > self._retry_for_s:
                raise ConnectionLost(f"{trouble}; gave up after {self._retry_for_s:.0f} s. Is the coordinator running?")
            pause_s = delay_s * random.uniform(0.5, 1.5)  # noqa: S311 - jitter, so that workers do not return at once
            self._reporter.notice(f"{trouble}; trying again in {pause_s:.0f} s")
            await asyncio.sleep(pause_s)
            away_s = loop.time() - last_contact
            delay_s = min(2 * delay_s, max(_SOON_RETRY_S, away_s / 4), LONGEST_RETRY_S)

    def _is_final(self, ended: SessionEnded) -> bool:
        if ended.code == "finished":
            self._reporter.notice(f"run finished: {ended.reason}")
            return True
        if ended.code == "protocol":
            raise RemoteProtocolError(f"the coordinator dropped this worker: {ended.reason}")
        taken_by_our_old_link = ended.code == "identity-in-use" and self._workshop is not None
        if ended.code not in _COMES_BACK and not taken_by_our_old_link:
            raise Refused(ended.code, ended.reason)
        return False

    # One connection

    async def _serve(self, link: Link) -> SessionEnded:
        self._was_welcomed = False
        link.send(Hello(software=f"fednet {__version__}", features=list(FEATURES)))
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                welcome = await link.receive()
        except TimeoutError as exc:
            raise ConnectionLost(f"{link.peer} sent no welcome within {WELCOME_TIMEOUT_S:.0f} s") from exc
        except ConnectionLost as exc:  # TLS 1.3: a refused certificate looks like this from here
            raise ConnectionLost(f"{exc} before a welcome (if that goes on: its log says why)") from exc.__cause__
        if isinstance(welcome, Goodbye):
            return SessionEnded(welcome.code, welcome.reason)
        assert isinstance(welcome, Welcome)
        self._was_welcomed = True
        link.start_heartbeats(welcome.heartbeat_s)
        await self._advise(welcome.authorities_sha256)
        workshop, session = await self._prepare(welcome)
        assert self._log is not None
        link.send(
            Ready(
                manifest=workshop.manifest.digest,
                samples=workshop.samples,
                device=str(workshop.device),
                known_record=self._log.chain.round,
            )
        )
        renewing = Renewing(link, self._own_certificate, self._reporter.notice) if self._own_certificate else None
        beside = [
            asyncio.create_task(self._read(link, renewing)),
            asyncio.create_task(self._keep_looking()),
            asyncio.create_task(self._keep_showing(link, session)),
        ]
        if renewing is not None:
            beside.append(asyncio.create_task(self._keep_certificate(renewing, welcome.authorities_sha256)))
        try:
            return await self._work(link, session)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _advise(self, told: str) -> None:
        before, self._advised = self._advised, await asyncio.to_thread(self._advice, told)
        if self._advised not in ("", before):
            self._reporter.notice(self._advised)

    async def _prepare(self, welcome: Welcome) -> tuple[Workshop, WorkerSession]:
        if self._workshop is not None and self._session is not None and welcome.run == self._run:
            return self._workshop, self._session
        await self._stop_training()
        self._events = asyncio.Queue()  # what is left of another run is of no use in this one
        settings = run_settings_from(welcome.settings)
        objection = self._consent.objection_to_run(settings)
        if objection is not None:
            raise self._declines(objection)
        self._reporter.notice(
            f"joined as {welcome.worker}: {settings.model} at {settings.image_size} px, {settings.rounds} rounds, "
            f"{settings.workers} workers, aggregated by {settings.recipe_name} (f = {settings.byzantine})"
        )
        self._workshop = await asyncio.to_thread(self._open_workshop, settings, welcome.run, welcome.worker)
        self._log = await asyncio.to_thread(self._open_log, welcome.run, welcome.worker)
        device = self._workshop.device
        self._session = WorkerSession(
            consent=self._consent,
            chain=self._log.chain,
            acknowledged=self._log.acknowledged,
            objection_now=lambda: self._consent.objection_now(self._look_around(device)),
        )
        self._run = welcome.run
        return self._workshop, self._session

    def _declines(self, objection: str) -> Refused:
        self._reporter.notice("this hospital declines the run: it goes beyond what `cli.py worker consent` agrees to")
        return Refused(DECLINED, objection)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            self._events.put_nowait(LookedAgain())

    async def _keep_showing(self, link: Link, session: WorkerSession) -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY_S)
            transfer, number = self._transfer_under_way(link, session), session.round_number
            if transfer is not None and number is not None:
                self._reporter.transferring(number, transfer)

    def _transfer_under_way(self, link: Link, session: WorkerSession) -> Transfer | None:
        if session.stage is Stage.RECEIVING and self._intake is not None:
            return Transfer(is_update=False, done=self._intake.offset, total=self._intake.nbytes)
        taken = link.taken(self._sends) if session.stage is Stage.DELIVERING else None
        if taken is None or self._workshop is None:
            return None
        return Transfer(is_update=True, done=taken, total=self._workshop.update.numel())

    async def _keep_certificate(self, renewing: Renewing, told: str) -> None:
        try:
            await renewing.run(told)
        except FednetError as exc:
            self._events.put_nowait(exc)

    async def _read(self, link: Link, renewing: Renewing | None) -> None:
        try:
            while True:
                message = await link.receive()
                if isinstance(message, Renewed | RenewalRefused) and renewing is not None:
                    await renewing.take(message)
                elif not isinstance(message, ChunksReceived):  # our upload arrived; UpdateAccepted is what counts
                    self._events.put_nowait(Heard(message))
        except FednetError as exc:
            self._events.put_nowait(exc)

    async def _work(self, link: Link, session: WorkerSession) -> SessionEnded:
        while True:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            before = session.stage
            commands = session.handle(event)
            if session.stage is not before:
                reached_state(f"worker.{session.stage.name.lower()}")
            for command in commands:
                if isinstance(command, SessionEnded):
                    return command
                await self._carry_out(command, link)

    async def _carry_out(self, command: Command, link: Link) -> None:
        workshop, record_log = self._workshop, self._log
        assert workshop is not None and record_log is not None
        match command:
            case Send(message):
                link.send(message)
            case StopReceiving():
                await self._stop_receiving(link)
            case BeginTask(started):
                await self._stop_receiving(link)
                await self._stop_training()
                self._intake = workshop.new_intake(nbytes=started.nbytes, sha256=started.sha256)
            case ReceiveModel(started):
                self._receiving, self._receives = asyncio.create_task(self._receive(started, link)), started.transfer
            case DropTask():
                await self._stop_receiving(link)
                await self._stop_training()
            case KeepOffered(update):
                await asyncio.to_thread(record_log.keep_offered, update)
            case Train(started, training):
                self._training = asyncio.create_task(self._train(started, training, workshop))
            case SendUpdate(transfer, offset, window):
                link.start_transfer(transfer, bytes_of(workshop.update), offset=offset, window=window)
                self._sends = transfer
            case KeepAcknowledged(number, sha256):
                await asyncio.to_thread(record_log.keep_acknowledged, number, sha256)
                reached_state("worker.acknowledged")
            case KeepWithdrawn(number):
                await asyncio.to_thread(record_log.keep_withdrawn, number)
            case KeepHeader(header):
                await asyncio.to_thread(record_log.keep_header, header)
            case KeepRecord(shown):
                await asyncio.to_thread(record_log.keep_record, shown)
                reached_state("worker.record-kept")
            case ShowRound(closed):
                self._reporter.round_closed(closed)
            case ShowNotice(text):
                self._reporter.notice(text)
            case Leave(reason):
                raise self._declines(reason)

    # The task

    async def _receive(self, started: RoundStarted, link: Link) -> None:
        intake = self._intake
        assert intake is not None
        try:
            for attempt in (1, 2):
                link.expect(started.transfer, nbytes=started.nbytes, offset=intake.offset, destination=intake)
                link.send(ModelWanted(round=started.round, transfer=started.transfer, offset=intake.offset))
                try:
                    await intake.run(link, started.transfer)
                    break
                except RemoteProtocolError as exc:
                    if attempt == 2:
                        raise
                    log.warning("model of round %d arrived damaged, asking again: %s", started.round, exc)
            self._events.put_nowait(ModelReceived(started.round))
        except FednetError as exc:
            self._events.put_nowait(exc)

    async def _train(self, started: RoundStarted, training: TrainingSettings, workshop: Workshop) -> None:
        loop = asyncio.get_running_loop()

        def show(progress: TrainingProgress) -> None:
            loop.call_soon_threadsafe(self._show_progress, started.round, progress)

        try:
            saved = await asyncio.to_thread(workshop.work, started, training, show)
        except Exception as exc:  # whatever ends the training thread must end the worker, not pass in silence
            self._events.put_nowait(exc)
            return
        if saved is not None:
            self._events.put_nowait(saved)

    def _show_progress(self, round_number: int, progress: TrainingProgress) -> None:
        self._reporter.training(round_number, progress)
        if self._link is not None and self._session is not None and self._session.round_number == round_number:
            with contextlib.suppress(FednetError):
                self._link.send(
                    Progress(
                        round=round_number,
                        fraction=progress.fraction,
                        remaining_s=progress.remaining_s,
                        images_per_s=progress.images_per_s,
                        loss=progress.loss or 0.0,  # under differential privacy none is told
                    )
                )

    async def _stop_training(self) -> None:
        if self._training is not None and self._workshop is not None:
            self._workshop.stop()
            await asyncio.gather(self._training, return_exceptions=True)
            self._training = None

    async def _detach(self) -> None:
        await self._stop_receiving(None)
        self._forget_link_failures()
        if self._session is not None:
            self._session.handle(LinkLost())

    async def _stop_receiving(self, link: Link | None) -> None:
        """Take no more of a model; on a link that goes on, expect none: the coordinator has stopped sending it."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.gather(self._receiving, return_exceptions=True)
            self._receiving = None
            if link is not None:
                link.forget(self._receives)

    def _forget_link_failures(self) -> None:
        kept: list[Event | Exception] = []
        while not self._events.empty():
            event = self._events.get_nowait()
            if not isinstance(event, Heard | ConnectionLost | RemoteProtocolError):
                kept.append(event)
        for event in kept:
            self._events.put_nowait(event)

    async def _say_goodbye(self, code: str, reason: str) -> None:
        if self._link is not None:
            await asyncio.shield(self._link.close(code, reason))
