"""Faults planted in the cores and in the models of the shells, each with the claim that must not hold then.

Some were real: the simulation, or the chaos bench, has found them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fednet.config import WorkerName
from fednet.coordinator.round import Aggregate, Command, Event, RoundRecovered, Rounds, StartRound, UpdateStored
from fednet.errors import AuditError
from fednet.protocol.messages import (
    ModelWanted,
    Records,
    RoundStarted,
    UpdateAccepted,
    UpdateOffered,
    UpdateRefused,
    UpdateWanted,
)
from fednet.worker import session as at_worker
from fednet.worker.session import Heard, LinkLost, SendUpdate, Stage, WorkerSession
from tests.coordinator.simulation.clock import Job
from tests.coordinator.simulation.coordinator import Coordinator
from tests.coordinator.simulation.desk import Desk, Incoming, spool_path
from tests.coordinator.simulation.federation import Cast
from tests.coordinator.simulation.session import Session
from tests.coordinator.simulation.weather import AT_THE_END, FAIR, LATE, LONG_ABSENCES, SLOW_DISK, Weather
from tests.coordinator.simulation.witness import Claim

# Never lose an update, never count one twice


class HastyDesk(Desk):
    """Acknowledges an update before it has synced its file."""

    def make_durable(self, worker: WorkerName, incoming: Incoming) -> Job[None]:
        yield from self.add_row(worker, incoming)
        incoming.is_settled = True
        self.take(worker, incoming)
        yield from self.sync_content(incoming)
        yield from self.sync_name(incoming)


class NamelessDesk(Desk):
    """Syncs an update's file, and not the folder that has its name."""

    def sync_name(self, incoming: Incoming) -> Job[None]:
        yield from ()


class KeepingDesk(Desk):
    """Keeps the row of the first update, whatever takes the place of its file."""

    def store(self, number: int, worker: WorkerName, sha256: str) -> None:
        self.database.updates.setdefault((number, worker), sha256)


class CountingRounds(Rounds):
    """Counts updates as they come, not workers."""

    counted: list[WorkerName]

    def handle(self, event: Event, *, now: float) -> list[Command]:
        if isinstance(event, RoundRecovered):
            self.counted = list(event.delivered)
        if isinstance(event, UpdateStored) and self.refusal(event.worker, event.round) is None:
            self.counted.append(event.worker)
        commands = super().handle(event, now=now)
        if StartRound(self.round_number) in commands and not isinstance(event, RoundRecovered):
            self.counted = []
        return [
            replace(command, workers=tuple(sorted(self.counted))) if isinstance(command, Aggregate) else command
            for command in commands
        ]


class RepeatingCoordinator(Coordinator):
    """Reports an update again when its worker comes back."""

    def catch_up(self, worker: WorkerName) -> None:
        super().catch_up(worker)
        if worker in self.rounds.delivered:
            self.desk.events.post(UpdateStored(worker, self.rounds.round_number))


# Never mix rounds


class BelatedRounds(Rounds):
    """Takes an update of a round that is over."""

    def refusal(self, worker: WorkerName, round_number: int) -> str | None:
        return super().refusal(worker, max(round_number, self.round_number))


class BelatedSession(Session):
    """Does not look at the round of an offer, and says nothing where that would show."""

    def is_of_another_round(self, offered: UpdateOffered) -> bool:
        return False

    def update_stored(self, number: int) -> None:
        found = self.desk.delivered.get(self.worker)
        if found is not None and found.path == spool_path(number, self.worker):
            super().update_stored(number)


class BelatedWorkerSession(WorkerSession):
    """Offers what it has when the next round begins."""

    def handle(self, event: at_worker.Event) -> list[at_worker.Command]:
        match event:
            case Heard(UpdateWanted(transfer=transfer, offset=offset, window=window)):
                return [SendUpdate(transfer, offset, window)]
            case Heard(RoundStarted(round=number)) if number != self.round_number and self.stage is Stage.DELIVERED:
                return [*self._offer(), *super().handle(event)]
        return super().handle(event)


# Never stop delivering


class ForgetfulSession(WorkerSession):
    """Does not offer an update again that it had when the connection broke."""

    def handle(self, event: at_worker.Event) -> list[at_worker.Command]:
        if isinstance(event, LinkLost):
            self._update = None
        return super().handle(event)


class ResignedSession(WorkerSession):
    """Has done its part in a round that closed while it received the model, and begins again."""

    def _refused(self, refused: UpdateRefused) -> list[at_worker.Command]:
        before = self._started
        commands = super()._refused(refused)
        if before is not None and self._started is None:
            self._started, self.stage = before, Stage.DELIVERED
        return commands


# Never take the other side for one that breaks the protocol


class LiteralSession(WorkerSession):
    """Begins a round twice that is said twice."""

    def handle(self, event: at_worker.Event) -> list[at_worker.Command]:
        if isinstance(event, Heard) and isinstance(event.message, RoundStarted):
            self._is_attached = False
        return super().handle(event)


class SuspiciousSession(WorkerSession):
    """Suspects who answers twice what it has asked twice."""

    def _records(self, records: Records) -> list[at_worker.Command]:
        commands = super()._records(records)
        if self._unproven is not None and not commands:
            raise AuditError("the coordinator does not show the records before it")
        return commands


class SelfishSession(WorkerSession):
    """Takes the update that it has for the one that is acknowledged."""

    def _accepted(self, accepted: UpdateAccepted) -> list[at_worker.Command]:
        own = self._update
        is_own = own is not None and own.round == accepted.round
        return super()._accepted(replace(accepted, sha256=own.sha256) if own and is_own else accepted)


class OpenSession(Session):
    """Sends the model of a round that takes no more updates."""

    def is_closed(self, wanted: ModelWanted) -> bool:
        return False


class UnstoppableSession(Session):
    """Goes on with a model when the worker's update turns out to be here."""

    def update_stored(self, number: int) -> None:
        sending, self._outgoing = self._outgoing, {}
        super().update_stored(number)
        self._outgoing = sending


class ObedientSession(Session):
    """Sends a model that is asked for before the worker hears that its update is here."""

    def has_delivered(self) -> bool:
        return False


# Never leave anybody waiting


class CurtCoordinator(Coordinator):
    """Is gone once the last round is committed."""

    def sees_off(self) -> bool:
        return False


class BlindCoordinator(Coordinator):
    """Does not look at what has happened while the last round was combined before it goes."""

    def sees_off(self) -> bool:
        return super().sees_off() and self.is_awaiting()


class StubbornCoordinator(Coordinator):
    """Waits for those who come back though it was asked to stop while the last round was combined."""

    def see_off(self) -> Job[None]:
        self.is_stopping = False
        yield from super().see_off()


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A fault: who has it, what does not hold then, and in which weather that shows soonest."""

    breaks: Claim
    cast: Cast
    weather: Weather = FAIR


PLANTED = {
    "acknowledges before the fsync": Planted(breaks=Claim.NOTHING_LOST, cast=Cast(desk=HastyDesk)),
    "skips the folder's fsync": Planted(breaks=Claim.NOTHING_LOST, cast=Cast(desk=NamelessDesk)),
    "keeps the row of a replaced update": Planted(
        breaks=Claim.NOTHING_LOST, cast=Cast(desk=KeepingDesk), weather=SLOW_DISK
    ),
    "counts a duplicate": Planted(
        breaks=Claim.COUNTED_ONCE, cast=Cast(coordinator=RepeatingCoordinator, rounds=CountingRounds)
    ),
    "takes a late update": Planted(
        breaks=Claim.OWN_ROUND,
        cast=Cast(rounds=BelatedRounds, session=BelatedSession, worker_session=BelatedWorkerSession),
    ),
    "forgets the retry": Planted(breaks=Claim.ASKED_DELIVERS, cast=Cast(worker_session=ForgetfulSession)),
    "does not begin a refused task again": Planted(
        breaks=Claim.ASKED_DELIVERS, cast=Cast(worker_session=ResignedSession), weather=LATE
    ),
    "begins a round twice": Planted(breaks=Claim.NO_BREACH, cast=Cast(worker_session=LiteralSession)),
    "sends the model of a closed round": Planted(breaks=Claim.NO_BREACH, cast=Cast(session=OpenSession), weather=LATE),
    "goes on with a model that is not wanted": Planted(
        breaks=Claim.NO_BREACH, cast=Cast(session=UnstoppableSession), weather=SLOW_DISK
    ),
    "begins with a model that is not wanted": Planted(
        breaks=Claim.NO_BREACH, cast=Cast(session=ObedientSession), weather=SLOW_DISK
    ),
    "suspects an answer given twice": Planted(
        breaks=Claim.CHAIN_HOLDS, cast=Cast(worker_session=SuspiciousSession), weather=LONG_ABSENCES
    ),
    "expects its own digest": Planted(
        breaks=Claim.CHAIN_HOLDS, cast=Cast(worker_session=SelfishSession), weather=SLOW_DISK
    ),
    "sees nobody off": Planted(breaks=Claim.END_IS_TOLD, cast=Cast(coordinator=CurtCoordinator), weather=AT_THE_END),
    "goes before it has looked": Planted(
        breaks=Claim.END_IS_TOLD, cast=Cast(coordinator=BlindCoordinator), weather=AT_THE_END
    ),
    "waits though it was stopped": Planted(
        breaks=Claim.STOPS, cast=Cast(coordinator=StubbornCoordinator), weather=AT_THE_END
    ),
}
