"""The model of `coordinator.sessions.Session`: one worker's connection, as the coordinator serves it."""

from __future__ import annotations

from collections.abc import Callable

from fednet.config import WorkerName
from fednet.coordinator.round import ModelDelivered, WorkerJoined, WorkerLeft, WorkerLost
from fednet.protocol.messages import (
    Goodbye,
    Message,
    ModelWanted,
    Ready,
    Records,
    RecordsWanted,
    RoundStarted,
    UpdateAccepted,
    UpdateOffered,
    UpdateRefused,
    UpdateWanted,
    Welcome,
)
from tests.coordinator.simulation.clock import Job, Task
from tests.coordinator.simulation.database import RUN
from tests.coordinator.simulation.desk import Desk, Incoming
from tests.coordinator.simulation.network import LOST, NBYTES, Chunk, Connection
from tests.coordinator.simulation.witness import Claim, Violation

TRAINING: dict[str, object] = {"local_epochs": 1}
_LEAVING = ("left", "declined", "failed")


class Session:
    """Serves one worker until its connection ends."""

    def __init__(self, desk: Desk, worker: WorkerName, link: Connection, forget: Callable[[Session], None]) -> None:
        """`forget` is called once the connection is over."""
        self.worker, self.link = worker, link
        self.known_record = 0
        self.is_over = False
        self.desk = desk
        self._world = desk.host.world
        self._forget = forget
        self._is_joined = False
        self._waiting: list[object] | None = None  # what comes while `Ready` is being written down
        self._upload: Incoming | None = None
        self._upload_transfer = -1
        self._expected: dict[int, Incoming | None] = {}  # by transfer; None: read into nothing
        self._outgoing: dict[int, Task] = {}

    def hear(self, said: object) -> None:
        """Take what the worker says."""
        if self.is_over or self.desk.is_gone:
            return
        if self._waiting is not None:
            self._waiting.append(said)
        elif said is LOST:
            self._end(leaves=False)
        elif isinstance(said, Ready):
            self._waiting = []
            self.desk.host.spawn(self._join(said))
        else:
            self._answer(said)

    def send(self, message: Message) -> None:
        """Say something to the worker."""
        self.link.to_worker.send(message)

    def greet(self) -> None:
        """Answer the worker's Hello."""
        self.send(Welcome(run=RUN, worker=self.worker, settings={}, manifest="", heartbeat_s=10.0))

    def close(self, code: str, reason: str) -> None:
        """Say goodbye; the connection is over once that has arrived."""
        self.send(Goodbye(code=code, reason=reason))
        self.link.close_by_coordinator()
        self.hear(LOST)

    def send_model(self) -> None:
        """Offer the round's model."""
        offer = self.desk.offer
        if offer is None:
            return
        self.send(
            RoundStarted(
                round=offer.round,
                rounds=self._world.plan.settings.rounds,
                transfer=offer.round,
                nbytes=NBYTES,
                sha256=offer.sha256,
                training=TRAINING,
                seed=0,
                remaining_s=self.desk.rounds.remaining_s(now=self._world.now),
            )
        )
        if self._is_joined:
            behind = len(self.desk.database.rounds) - self.known_record
            within_s = self._world.plan.answers_within_s(behind=behind)
            self._world.at(self._world.now + within_s, self._require_update, offer.round)

    def update_stored(self, number: int) -> None:
        """Acknowledge a durable update, if the round has taken it; it may have been committed meanwhile."""
        update = self.desk.delivered.get(self.worker)
        if update is None:
            return
        if self.worker in self.desk.rounds.delivered:
            self._world.counts["models stopped"] += self._stop_sending(number)
            self.send(UpdateAccepted(round=number, sha256=update.sha256))
        else:
            self._refuse(number)

    def close_round(self, number: int) -> None:
        """Stop both transfers of a round that takes no more updates."""
        if self._stop_sending(number):
            self._refuse(number)
        if self._is_uploading() and self.worker not in self.desk.delivered:
            self._upload = None
            if self._upload_transfer in self._expected:
                self._expected[self._upload_transfer] = None
            self._refuse(number)

    def is_closed(self, wanted: ModelWanted) -> bool:
        """Whether the round whose model a worker wants takes no updates."""
        return self.desk.rounds.refusal(self.worker, wanted.round) is not None

    def has_delivered(self) -> bool:
        """Whether the round has this worker's update: it was told so, after it had asked for the model."""
        return self.worker in self.desk.rounds.delivered

    def is_of_another_round(self, offered: UpdateOffered) -> bool:
        """Whether an update is not of the model on offer."""
        return self.desk.offer is None or offered.round != self.desk.offer.round

    def _require_update(self, number: int) -> None:
        if not self.is_over and not self.desk.is_gone and not self.link.is_over:
            self.desk.witness.asked(self.worker, number, self.desk.rounds)

    def _join(self, ready: Ready) -> Job[None]:
        self.known_record = ready.known_record
        yield from self.desk.database.transact(self.desk.host, f"has seen {self.worker}", lambda: None)
        self._is_joined = True
        self.desk.events.post(WorkerJoined(self.worker))
        waiting, self._waiting = self._waiting or [], None
        for said in waiting:
            self.hear(said)

    def _end(self, *, leaves: bool) -> None:
        self.is_over, self._upload = True, None
        for sending in self._outgoing.values():
            sending.cancel()
        self.link.close_by_coordinator()
        if self._is_joined:
            self.desk.events.post(WorkerLeft(self.worker) if leaves else WorkerLost(self.worker))
        self._forget(self)

    def _answer(self, said: object) -> None:
        match said:
            case Chunk():
                self._take_chunk(said)
            case ModelWanted():
                self._start_sending(said)
            case UpdateOffered():
                self._consider(said)
            case RecordsWanted(after=after):
                found = [record.header for record in self.desk.database.records[after + 1 :]]
                self._world.counts["catch-ups"] += 1
                self.send(Records(headers=found[: self._world.plan.headers_at_a_time]))
            case Goodbye(code=code):
                self._end(leaves=code in _LEAVING)

    # The model

    def _start_sending(self, wanted: ModelWanted) -> None:
        offer = self.desk.offer
        if self.is_closed(wanted) or offer is None or wanted.round != offer.round:
            self._world.counts["models refused"] += 1
            self._refuse(wanted.round)
            return
        if self.has_delivered():
            self._world.counts["models not wanted any more"] += 1
            return
        if wanted.transfer in self._outgoing:
            raise Violation(Claim.NO_BREACH, f"{self.worker}: transfer {wanted.transfer} is under way already")
        if wanted.offset < NBYTES:
            self._outgoing[wanted.transfer] = self.desk.host.spawn(self._send_chunks(wanted, offer.sha256))
        else:
            self._model_delivered(wanted.round)

    def _send_chunks(self, wanted: ModelWanted, model: str) -> Job[None]:
        for offset in range(wanted.offset, NBYTES):
            yield self._world.soon(self._world.plan.message_s)
            self.link.to_worker.send(Chunk(wanted.transfer, offset, model))
        yield self._world.soon(self._world.plan.message_s)  # until the worker has acknowledged all of it
        del self._outgoing[wanted.transfer]
        self._model_delivered(wanted.round)

    def _stop_sending(self, transfer: int) -> bool:
        sending = self._outgoing.pop(transfer, None)
        if sending is not None:
            sending.cancel()
        return sending is not None

    def _model_delivered(self, number: int) -> None:
        for _ in range(1 + self._world.strikes(0.1)):  # a worker may say that it has it, and acknowledge it too
            self.desk.events.post(ModelDelivered(self.worker, number))

    # The update

    def _consider(self, offered: UpdateOffered) -> None:
        desk = self.desk
        desk.witness.offered(self.worker, offered)
        if desk.rounds.refusal(self.worker, offered.round) is not None:
            self._world.counts["late updates"] += 1
            self._refuse(offered.round)
        elif self.is_of_another_round(offered):
            raise Violation(Claim.NO_BREACH, f"{self.worker} offers an update of a model that it was not offered")
        elif self.worker in desk.rounds.delivered:
            self.update_stored(offered.round)
        elif self.worker in desk.delivered:
            return
        elif self._is_uploading():
            raise Violation(Claim.NO_BREACH, f"{self.worker} offers a second update while it sends the first")
        else:
            self._receive(offered)

    def _receive(self, offered: UpdateOffered) -> None:
        incoming = self.desk.incoming(self.worker, offered)
        self._upload, self._upload_transfer = incoming, offered.transfer
        offset = NBYTES if incoming.is_being_kept else len(incoming.file.content) // len(offered.sha256)
        if offset < NBYTES:
            self._expected[offered.transfer] = incoming
        self.send(UpdateWanted(round=offered.round, transfer=offered.transfer, offset=offset))
        if offset == NBYTES:
            self.desk.keep(self.worker, incoming)

    def _take_chunk(self, chunk: Chunk) -> None:
        if chunk.transfer not in self._expected:
            raise Violation(Claim.NO_BREACH, f"{self.worker} sends a chunk that was not asked for: {chunk.transfer}")
        is_last = chunk.offset == NBYTES - 1
        incoming = self._expected.pop(chunk.transfer) if is_last else self._expected[chunk.transfer]
        if incoming is None or not self.desk.is_wanted(self.worker, incoming):
            return
        incoming.file.content = chunk.content if is_last else incoming.offered.sha256
        if is_last:
            self.desk.keep(self.worker, incoming)

    def _is_uploading(self) -> bool:
        return self._upload is not None and not self._upload.is_settled

    def _refuse(self, number: int) -> None:
        self.send(UpdateRefused(round=number, code="late", reason="the round has closed"))
