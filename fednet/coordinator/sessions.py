"""One worker's session at the coordinator: greeting, sending the model, taking the update."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import asdict
from datetime import datetime, timedelta

from fednet.coordinator.declining import plain_reason
from fednet.coordinator.desk import SENDS_UPDATE, Desk, IncomingUpdate
from fednet.coordinator.renewals import Renewals
from fednet.coordinator.round import (
    ModelDelivered,
    WorkerDeclined,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkerReconsidered,
)
from fednet.coordinator.site_evaluation import impossibility
from fednet.errors import DECLINED, ConnectionLost, FednetError, RemoteProtocolError, StorageError
from fednet.protocol import limits
from fednet.protocol.chunks import chunk_for
from fednet.protocol.frames import VERSION
from fednet.protocol.messages import (
    ChunksReceived,
    Goodbye,
    Hello,
    Message,
    ModelWanted,
    Progress,
    Ready,
    Records,
    RecordsWanted,
    RenewalRequested,
    RoundDeclined,
    RoundStarted,
    UpdateAccepted,
    UpdateOffered,
    UpdateRefused,
    UpdateWanted,
    Welcome,
)
from fednet.reporting.reporter import WorkerView
from fednet.security.identity import PeerIdentity, identity_of
from fednet.transport.link import Link

log = logging.getLogger("fednet.coordinator")

_LEAVING = ("left", DECLINED, "failed")  # goodbyes of a worker that does not come back by itself
READY_TIMEOUT_S = 300.0  # a worker may decode its scans and load weights between Welcome and Ready


class Session:
    """Serves one identified worker from its Hello until the link ends."""

    def __init__(self, desk: Desk, link: Link, identity: PeerIdentity, renewals: Renewals) -> None:
        self.worker = identity.name
        self.link = link
        self.known_record = 0  # the last round of which the worker has the record
        self.identity = identity
        self._desk = desk
        self._renewals = renewals
        self._renewing: asyncio.Task[None] | None = None
        self._shown = link.certificate  # what proves the worker: the connection's certificate, or the last one given
        self._upload: asyncio.Task[None] | None = None
        self._upload_transfer = 0
        self._said_goodbye = self._leaves = False
        self.is_expelled = False
        self._ended = asyncio.Event()

    async def serve(self, hello: Hello) -> None:
        """Greet the worker, then answer it until it is gone. Raises what ended the link, if not a goodbye."""
        try:
            await self._serve(hello)
        finally:
            self._ended.set()

    async def ended(self) -> None:
        """Wait until this session has let go of all it held."""
        await self._ended.wait()

    async def expel(self, code: str, reason: str) -> None:
        """Tell the worker why it takes part no more, take nothing of it from now on, and hang up."""
        self.is_expelled = self._leaves = True
        # what still comes of an upload is not acknowledged: nothing follows a goodbye
        await asyncio.gather(self.link.part(code, reason), self._cancel_upload())

    async def _serve(self, hello: Hello) -> None:
        await self._greet(hello)
        if self.is_expelled:
            return
        view = self._desk.views[self.worker]
        view.certificate_expires = self.identity.not_after
        self._desk.events.put_nowait(WorkerJoined(self.worker))
        try:
            while not self._said_goodbye:
                message = await self.link.receive()
                if self._ignores(message):
                    continue
                self._take(message)
                if isinstance(message, Goodbye):
                    await self._note_goodbye(message)
        finally:
            await self._cancel_upload()
            await self._cancel_renewal()
            view.is_connected, view.activity = False, self._parting
            gone = WorkerLeft(self.worker) if self._leaves else WorkerLost(self.worker)
            self._desk.events.put_nowait(gone)

    def _ignores(self, message: Message) -> bool:
        return self.is_expelled and not isinstance(message, Goodbye)

    @property
    def _parting(self) -> str:
        if self.is_expelled:
            return "revoked"
        return "left" if self._leaves else "lost its connection"

    def show_sign_of_life(self, now: datetime) -> None:
        """Renew when the worker was last heard; it may not be ready yet."""
        if (view := self._desk.views.get(self.worker)) is not None:
            view.last_seen = now - timedelta(seconds=self.link.silent_s)

    def send_model(self) -> None:
        """Offer the round's model."""
        offer, settings, rounds = self._desk.offer, self._desk.settings, self._desk.rounds
        if offer is None:
            return
        self._show("being offered the model")
        self.link.send(
            RoundStarted(
                round=offer.round,
                rounds=settings.rounds,
                transfer=offer.round,
                nbytes=len(offer.data),
                sha256=offer.sha256,
                training=asdict(settings.training_in(offer.round)),
                seed=settings.seed,
                remaining_s=rounds.remaining_s(now=self._desk.now()),
            )
        )

    def update_stored(self, round_number: int) -> None:
        """Acknowledge this worker's durable update if the round has taken it, which is not so where it had closed."""
        update = self._desk.delivered.get(self.worker)
        if update is None:
            return  # its round has been committed meanwhile
        if self.worker in self._desk.rounds.delivered:
            self._show("done with this round")
            self.link.stop_transfer(round_number)  # a worker that came back may have been offered the model again
            self.link.send(UpdateAccepted(round=round_number, sha256=update.sha256))
        else:
            self._refuse(round_number, "late", f"round {round_number} closed before the update was stored")

    def withdraw_update(self, round_number: int, reason: str) -> None:
        """Take back an acknowledgement: nothing could be made of the update, and it will be asked for again."""
        self._refuse(round_number, "withdrawn", reason)

    async def close_round(self, round_number: int) -> None:
        """Stop both transfers of a round that takes no more updates."""
        if self.link.stop_transfer(round_number):
            self._refuse(round_number, "late", f"round {round_number} closed before its model had arrived")
        is_uploading = self._upload is not None and not self._upload.done()
        if is_uploading and self.worker not in self._desk.delivered:  # who has delivered is about to hear of it
            await self._cancel_upload()
            self.link.discard(self._upload_transfer)
            self._refuse(round_number, "late", f"round {round_number} closed before the update was complete")

    async def _greet(self, hello: Hello) -> None:
        if not hello.oldest_version <= VERSION <= hello.newest_version:
            found = f"{hello.oldest_version} to {hello.newest_version}"
            older = "worker" if hello.newest_version < VERSION else "coordinator"
            reason = f"worker speaks protocol {found}, coordinator {VERSION}: upgrade the {older}"
            await self._turn_away("version", reason)
        desk = self._desk
        lacking = sorted((desk.update_form.features | desk.model_form.features) - set(hello.features))
        if lacking:
            todo = "upgrade the worker, or start the run without --compress"
            await self._turn_away("feature", f"this run's transfers need {', '.join(lacking)}: {todo}")
        self.link.start_heartbeats()
        self.link.send(
            Welcome(
                run=desk.run,
                worker=self.worker,
                settings=desk.settings.to_dict(),
                manifest=desk.manifest.digest,
                heartbeat_s=limits.HEARTBEAT_S,
                authorities_sha256=self._renewals.authorities_sha256,
            )
        )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                ready = await self.link.receive()
        except TimeoutError as exc:
            raise ConnectionLost(f"{self.worker} was not ready within {READY_TIMEOUT_S:.0f} s") from exc
        if isinstance(ready, Goodbye):
            await self._note_goodbye(ready)
            raise ConnectionLost(f"{self.worker} does not take part: {ready.reason}")
        assert isinstance(ready, Ready)
        if ready.manifest != desk.manifest.digest:
            found = f"{ready.manifest[:12]}, this run has {desk.manifest.digest[:12]}"
            reason = f"the worker's {desk.settings.model} has another layout ({found}): install the same FedNet version"
            await self._turn_away("model-differs", reason)
        self.known_record = ready.known_record
        await desk.worker_ready(self.worker, ready, fingerprint=self.identity.fingerprint)

    async def _turn_away(self, code: str, reason: str) -> None:
        await self.link.close(code, reason)
        raise RemoteProtocolError(reason)

    def _take(self, message: Message) -> None:
        match message:
            case ModelWanted():
                self._start_sending(message)
            case ChunksReceived():
                self._model_delivered(message.transfer)
            case Progress():
                view = self._show("training", message.fraction)
                view.remaining_s, view.images_per_s, view.loss = (
                    message.remaining_s,
                    message.images_per_s,
                    message.loss,
                )
            case UpdateOffered():
                self._consider(message)
            case RecordsWanted():
                self.link.send(Records(headers=self._desk.headers_after(message.after)))
            case RenewalRequested():
                self._start_renewing(message)
            case Goodbye():
                self._said_goodbye, self._leaves = True, self.is_expelled or message.code in _LEAVING
                log.info("%s left: %s", self.worker, message.reason)
            case RoundDeclined():
                self._declines(message)

    async def _note_goodbye(self, said: Goodbye) -> None:
        if said.code == DECLINED:
            await self._desk.run_declined(self.worker, plain_reason(said.reason))

    def _declines(self, declined: RoundDeclined) -> None:
        if self._desk.rounds.refusal(self.worker, declined.round) is not None:
            return  # the round has closed meanwhile
        reason = plain_reason(declined.reason)
        self._show("declined this round")
        log.warning("%s declines round %d: %s", self.worker, declined.round, reason)
        self._desk.events.put_nowait(WorkerDeclined(self.worker, declined.round, reason))

    def _start_renewing(self, asked: RenewalRequested) -> None:
        if self._renewing is not None and not self._renewing.done():
            raise RemoteProtocolError(f"{self.worker} asks for a second certificate while the first is being signed")
        self._renewing = asyncio.create_task(self._renew(asked))

    async def _renew(self, asked: RenewalRequested) -> None:
        assert self._shown is not None, "a session has a certificate"
        self._shown = await self._renewals.answer(self.link, self._shown, asked) or self._shown
        self._desk.views[self.worker].certificate_expires = identity_of(self._shown).not_after

    def _start_sending(self, wanted: ModelWanted) -> None:
        offer = self._desk.offer
        is_closed = self._desk.rounds.refusal(self.worker, wanted.round) is not None
        if is_closed or offer is None or wanted.round != offer.round:
            self._refuse(wanted.round, "late", f"round {wanted.round} closed before its model was asked for")
            return
        if self.worker in self._desk.rounds.delivered:
            return  # its update counted, and it was told so, while it asked
        if wanted.transfer != offer.round:
            raise RemoteProtocolError(f"{self.worker} wants transfer {wanted.transfer}, offered was {offer.round}")
        self._show("receiving the model")
        self._desk.events.put_nowait(WorkerReconsidered(self.worker, wanted.round))
        self.link.start_transfer(
            wanted.transfer,
            offer.data,
            offset=wanted.offset,
            window=wanted.window,
            chunk=chunk_for(self._desk.window),
        )
        if wanted.offset == len(offer.data):
            self._model_delivered(offer.round)

    def _model_delivered(self, round_number: int) -> None:
        self._show("preparing to train")
        self._desk.events.put_nowait(ModelDelivered(self.worker, round_number))

    def _consider(self, offered: UpdateOffered) -> None:
        desk = self._desk
        refusal = desk.rounds.refusal(self.worker, offered.round)
        if refusal is not None:
            self._refuse(offered.round, "late", refusal)
        elif desk.offer is None or desk.offer.round != offered.round:
            raise RemoteProtocolError(f"{self.worker} offers an update of a model that it has not been offered")
        elif not desk.update_form.fits(offered.nbytes, desk.manifest):
            form = f"an update of {desk.manifest.total_bytes} bytes, --compress {desk.settings.compress}"
            self._refuse(offered.round, "size", f"offered are {offered.nbytes} bytes, which is not {form}")
        elif (why := self._unbelievable(offered)) is not None:
            self._refuse(offered.round, "counts", why)
        elif self.worker in desk.rounds.delivered:
            self.update_stored(offered.round)
        elif self.worker in desk.delivered:
            return  # durable already; the round is about to be told
        elif self._upload is not None and not self._upload.done():
            raise RemoteProtocolError(f"{self.worker} offers a second update while it sends the first")
        else:
            self._upload_transfer = offered.transfer
            self._upload = asyncio.create_task(self._receive_update(offered))

    def _unbelievable(self, offered: UpdateOffered) -> str | None:
        classes, samples = len(self._desk.settings.classes), self._desk.views[self.worker].samples
        return impossibility(offered.confusion, classes=classes, samples=samples)

    async def _receive_update(self, offered: UpdateOffered) -> None:
        self._show(SENDS_UPDATE)
        incoming: IncomingUpdate | None = None
        try:
            incoming = self._desk.incoming(self.worker, offered, fingerprint=self.identity.fingerprint)
            await self._receive_verified(offered, incoming)
            await self._desk.keep(self.worker, incoming)
        except StorageError as exc:
            self._desk.storage_failed(self.worker, incoming, exc)
            return
        except RemoteProtocolError as exc:
            self._refuse(offered.round, "digest", str(exc))
            await self.link.close("digest", str(exc))
            return

    async def _receive_verified(self, offered: UpdateOffered, incoming: IncomingUpdate) -> None:
        intake = incoming.intake
        with contextlib.suppress(RemoteProtocolError):
            return await self._receive_once(offered, intake_offset=intake.offset, incoming=incoming)
        log.warning("%s: update of round %d arrived damaged, asking again", self.worker, offered.round)
        return await self._receive_once(offered, intake_offset=0, incoming=incoming)

    async def _receive_once(self, offered: UpdateOffered, *, intake_offset: int, incoming: IncomingUpdate) -> None:
        window, transfer = self._desk.window, offered.transfer
        self.link.expect(
            transfer, nbytes=offered.nbytes, offset=intake_offset, destination=incoming.intake, window=window
        )
        self.link.send(UpdateWanted(round=offered.round, transfer=transfer, offset=intake_offset, window=window))
        await incoming.intake.run(self.link, transfer, window=window)

    def _refuse(self, round_number: int, code: str, reason: str) -> None:
        self._show("done with this round")
        self.link.send(UpdateRefused(round=round_number, code=code, reason=reason))

    def _show(self, activity: str, fraction: float = 0.0) -> WorkerView:
        view = self._desk.views[self.worker]
        view.activity, view.fraction, view.remaining_s = activity, fraction, None
        return view

    async def _cancel_upload(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
            with contextlib.suppress(asyncio.CancelledError, FednetError):
                await self._upload

    async def _cancel_renewal(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewing
