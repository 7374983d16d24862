"""The model of `worker.service.Worker` and its workshop, around the real `WorkerSession` and `OwnChain`."""

from __future__ import annotations

import math

from fednet.audit.own_chain import OwnChain
from fednet.config import WorkerName
from fednet.errors import AuditError, RemoteProtocolError
from fednet.protocol.messages import Goodbye, Message, ModelWanted, Ready, RoundStarted, UpdateAccepted, Welcome
from fednet.worker.consent import WorkerConsent
from fednet.worker.session import (
    BeginTask,
    Command,
    Event,
    Heard,
    KeepAcknowledged,
    KeepHeader,
    KeepRecord,
    LinkLost,
    ModelReceived,
    ReceiveModel,
    Send,
    SendUpdate,
    SessionEnded,
    StopReceiving,
    Train,
    UpdateSaved,
    WorkerSession,
)
from tests.coordinator.simulation.clock import Host, Job, Mailbox, Task, World
from tests.coordinator.simulation.coordinator import Coordinator
from tests.coordinator.simulation.database import RUN
from tests.coordinator.simulation.network import LOST, NBYTES, Chunk, Connection
from tests.coordinator.simulation.updates import Update, digest_of
from tests.coordinator.simulation.witness import Claim, Violation, Witness

_FIRST_RETRY_S, _SOON_RETRY_S, _LONGEST_RETRY_S = 1.0, 3.0, 30.0  # as in worker/service.py


class Worker(Host):
    """One hospital, over as many processes as it takes; what `start` sets is a process's memory."""

    def __init__(
        self,
        world: World,
        witness: Witness,
        coordinator: Coordinator,
        name: WorkerName,
        *,
        session: type[WorkerSession] = WorkerSession,
    ) -> None:
        """`session`: what decides for it."""
        plan = world.plan
        super().__init__(world, name, crash_chance=plan.worker_crash_chance, write_s=plan.worker_write_s)
        self._session_type = session
        self.worker = name
        self._witness, self._coordinator = witness, coordinator
        self._attempts = 0  # of training, where it does not repeat
        self._format_disk()
        self._link: Connection | None = None
        self._is_up = False

    def start(self) -> None:
        """Begin a process."""
        self.life += 1
        self.world.say(self.name, "starts")
        self._is_up = True
        self._session: WorkerSession | None = None
        self._chain = OwnChain(run=RUN, worker=self.name, check_signature=lambda *_: None)
        self._events = Mailbox()
        self._link = None
        self._received = 0  # bytes of the round's model
        self._receives: int | None = None  # which transfer
        self._base = ""
        self._training: Task | None = None
        self._looks_for_saved = True
        self._update = ""
        self._main = self.spawn(self._keep_connected())

    def crash(self) -> None:
        """Die, and start again some time later, on an empty disk perhaps."""
        if self._is_up:
            self.world.counts["worker crashes"] += 1
            self.world.say(self.name, "dies")
            self.lose_link()
            self._end_process()
            if self.world.strikes(self.world.plan.disk_loss_chance):
                self.world.counts["lost disks"] += 1
                self.world.say(self.name, "has lost its disk")
                self._format_disk()

    def leave(self) -> None:
        """Say goodbye, and come back some time later."""
        if self._is_up:
            self.world.counts["goodbyes"] += 1
            if self._link is not None:
                self._link.to_coordinator.send(Goodbye(code="left", reason="stopped by its operator"))
                self._link.close_by_worker()
            self._end_process()

    def lose_link(self) -> None:
        """Lose the connection."""
        if self._link is not None:
            self._link.cut()

    def _format_disk(self) -> None:
        self._saved: tuple[int, str, int] | None = None  # round, model and attempt of the training that is saved
        self._acknowledged: dict[int, str] = {}
        self._header: bytes | None = None

    def _end_process(self) -> None:
        self.life += 1
        self._is_up, self._link = False, None
        self.world.at(self.world.soon(self.world.plan.outage_s), self.start)

    # Connections

    def _keep_connected(self) -> Job[None]:
        world, delay_s, last_contact = self.world, _FIRST_RETRY_S, self.world.now
        while True:
            yield world.soon(0.5)
            if self._coordinator.is_listening:
                self._connect()
                if (yield from self._serve()):
                    self._is_up = False
                    self._witness.heard_the_end(self.worker)
                    return
                self._detach()
                delay_s, last_contact = _FIRST_RETRY_S, world.now
            yield world.now + delay_s * world.dice.uniform(0.5, 1.5)
            delay_s = min(2 * delay_s, max(_SOON_RETRY_S, (world.now - last_contact) / 4), _LONGEST_RETRY_S)

    def _connect(self) -> None:
        link, life = Connection(self.world, self.name), self.life

        def hear(said: object) -> None:
            if life == self.life and link is self._link:
                if isinstance(said, UpdateAccepted):
                    self._witness.acknowledged(self.worker, said)
                self._events.post((said,))

        link.to_worker.hear = hear
        self._link = link
        self._coordinator.accept(self.worker, link)

    def _serve(self) -> Job[bool]:
        """Return whether the run is over, once the connection is."""
        while (said := (yield from self._next_said())) is not LOST:
            if isinstance(said, Welcome):
                yield from self._prepare()
            elif isinstance(said, Chunk):
                self._take_chunk(said)
            else:
                event = Heard(said) if isinstance(said, Message) else said
                for command in self._handle(event):
                    if isinstance(command, SessionEnded):
                        return command.code == "finished"
                    yield from self._carry_out(command)
        return False

    def _next_said(self) -> Job[object]:
        if not self._events:
            yield from self._events.wait(self._main, math.inf)
        event = self._events.popleft()
        return event[0] if isinstance(event, tuple) else event

    def _prepare(self) -> Job[None]:
        if self._session is None:
            yield self.world.soon(2.0)
            if self._header is not None:
                self._chain.restore(self._header)
            self._session = self._session_type(
                consent=WorkerConsent(), chain=self._chain, acknowledged=self._acknowledged
            )
        self._send(Ready(manifest="", samples=1, device="cpu", known_record=self._chain.round))

    def _detach(self) -> None:
        if self._link is not None:
            self._link.close_by_worker()
        self._link, self._receives = None, None
        kept = [event for event in self._events if not isinstance(event, tuple)]
        self._events.clear()
        self._events.extend(kept)
        if self._session is not None:
            self._session.handle(LinkLost())

    def _handle(self, event: object) -> list[Command]:
        assert self._session is not None
        assert isinstance(event, Event)
        try:
            return self._session.handle(event)
        except AuditError as exc:
            raise Violation(Claim.CHAIN_HOLDS, f"{self.name}: {exc}") from exc
        except RemoteProtocolError as exc:
            raise Violation(Claim.NO_BREACH, f"{self.name}: {exc}") from exc

    def _send(self, message: object) -> None:
        if self._link is not None:
            self._link.to_coordinator.send(message)

    # The task

    def _carry_out(self, command: Command) -> Job[None]:
        match command:
            case Send(message):
                self._send(message)
            case StopReceiving():
                self._receives = None
            case BeginTask(started):
                self._receives, self._received, self._base = None, 0, started.sha256
                self._stop_training()
            case ReceiveModel(started):
                self._receive(started)
            case Train(started, _):
                self._training = self.spawn(self._train(started.round, started.sha256))
            case SendUpdate(transfer, offset, _):
                self.spawn(self._send_update(transfer, offset))
            case KeepAcknowledged(number, sha256):
                yield from self.write("keeps what was acknowledged", lambda: self._keep_acknowledged(number, sha256))
            case KeepHeader(header):
                yield from self.write("keeps a header", lambda: self._keep_header(header))
            case KeepRecord(shown):
                yield from self.write("keeps a record", lambda: self._keep_header(shown.header))

    def _keep_acknowledged(self, number: int, sha256: str) -> None:
        self._acknowledged[number] = sha256

    def _keep_header(self, header: bytes) -> None:
        self._header = header

    def _receive(self, started: RoundStarted) -> None:
        if self._receives is not None:
            raise Violation(Claim.NO_BREACH, f"{self.name}: transfer {self._receives} is under way already")
        if self._received < NBYTES:
            self._receives = started.transfer
        else:
            self._events.post(ModelReceived(started.round))
        self._send(ModelWanted(round=started.round, transfer=started.transfer, offset=self._received))

    def _take_chunk(self, chunk: Chunk) -> None:
        if chunk.transfer != self._receives:
            raise Violation(
                Claim.NO_BREACH, f"{self.name}: chunk of transfer {chunk.transfer}, which was not asked for"
            )
        assert chunk.offset == self._received and chunk.content == self._base
        self._received += 1
        if self._received == NBYTES:
            self._receives = None
            self._events.post(ModelReceived(chunk.transfer))

    def _train(self, number: int, base: str) -> Job[None]:
        saved = self._saved if self._looks_for_saved and self._saved and self._saved[:2] == (number, base) else None
        self._looks_for_saved = False
        yield self.world.soon(0.1 if saved else self.world.plan.training_s)
        if saved is None:
            saved = number, base, self._next_attempt()
            yield from self.write(f"saves its training of round {number}", lambda: self._save(saved))
        self._update = Update(self.worker, *saved).content
        sha256 = digest_of(self._update)
        self._events.post(UpdateSaved(round=number, nbytes=NBYTES, sha256=sha256, samples=1, train_s=1.0, loss=0.5))

    def _next_attempt(self) -> int:
        self._attempts += not self.world.plan.training_repeats
        return self._attempts

    def _save(self, saved: tuple[int, str, int]) -> None:
        self._saved = saved

    def _stop_training(self) -> None:
        if self._training is not None:
            self._training.cancel()
            self._training = None

    def _send_update(self, transfer: int, start: int) -> Job[None]:
        link, content = self._link, self._update
        for offset in range(start, NBYTES):
            yield self.world.soon(self.world.plan.message_s)
            if link is not None and link is self._link:
                link.to_coordinator.send(Chunk(transfer, offset, content))
        yield self.world.soon(2 * self.world.plan.message_s)  # until it has arrived, perhaps
        self.may_die("after sending its update", chance=self.world.plan.crash_once_sent_chance)
