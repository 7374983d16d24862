"""The run's rounds as a pure state machine: events and the time in, commands out; no clock, socket or file.

waiting for workers -> distributing -> collecting -> aggregating -> evaluating -> committed -> waiting for workers ...
A process that takes over in the middle of a round (`RoundRecovered`) goes on with the updates that are durable; the
deadline begins anew, because the workers could not deliver while nobody listened.
A round closes when every worker that can still be expected has delivered, or at the deadline with at least the
quorum. Below quorum it keeps its number and the updates it has, and after its patience the run parks.
A worker whose certificate is revoked counts in no round that is not being committed yet: updates that were aggregated
with its own are aggregated again without it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from fednet.config import RunSettings, WorkerName


class Phase(enum.Enum):
    """Where the run is."""

    WAITING = "waiting for workers"
    DISTRIBUTING = "distributing"
    COLLECTING = "collecting"
    AGGREGATING = "aggregating"
    EVALUATING = "evaluating"
    COMMITTING = "committing"
    FINISHED = "finished"
    PARKED = "parked"


class Turn(enum.Enum):
    """What makes the run leave a phase."""

    COHORT_COMPLETE = enum.auto()
    MODEL_EVERYWHERE = enum.auto()
    UPDATES_COMPLETE = enum.auto()
    AGGREGATED = enum.auto()
    EVALUATED = enum.auto()
    COMMITTED = enum.auto()
    LAST_COMMITTED = enum.auto()
    GIVEN_UP = enum.auto()
    SPOILT = enum.auto()


TRANSITIONS: dict[tuple[Phase, Turn], Phase] = {
    (Phase.WAITING, Turn.COHORT_COMPLETE): Phase.DISTRIBUTING,
    (Phase.DISTRIBUTING, Turn.MODEL_EVERYWHERE): Phase.COLLECTING,
    (Phase.DISTRIBUTING, Turn.UPDATES_COMPLETE): Phase.AGGREGATING,
    (Phase.COLLECTING, Turn.UPDATES_COMPLETE): Phase.AGGREGATING,
    (Phase.AGGREGATING, Turn.AGGREGATED): Phase.EVALUATING,
    (Phase.EVALUATING, Turn.EVALUATED): Phase.COMMITTING,
    (Phase.COMMITTING, Turn.COMMITTED): Phase.WAITING,
    (Phase.COMMITTING, Turn.LAST_COMMITTED): Phase.FINISHED,
    (Phase.WAITING, Turn.GIVEN_UP): Phase.PARKED,
    (Phase.DISTRIBUTING, Turn.GIVEN_UP): Phase.PARKED,
    (Phase.COLLECTING, Turn.GIVEN_UP): Phase.PARKED,
    (Phase.AGGREGATING, Turn.GIVEN_UP): Phase.PARKED,
    (Phase.AGGREGATING, Turn.SPOILT): Phase.COLLECTING,
    (Phase.EVALUATING, Turn.SPOILT): Phase.COLLECTING,
}


@dataclass(frozen=True)
class WorkerJoined:
    """A worker is ready for rounds, for the first time or again."""

    worker: WorkerName


@dataclass(frozen=True)
class WorkerLost:
    """A worker's connection broke; it is expected back for a while."""

    worker: WorkerName


@dataclass(frozen=True)
class WorkerLeft:
    """A worker said goodbye; nobody waits for it."""

    worker: WorkerName


@dataclass(frozen=True)
class ModelDelivered:
    """A worker has the round's whole global model."""

    worker: WorkerName
    round: int


@dataclass(frozen=True)
class UpdateStored:
    """A worker's update is verified and durable."""

    worker: WorkerName
    round: int


@dataclass(frozen=True)
class WorkerDeclined:
    """A worker does not train in this round; it stays, and nobody waits for its update."""

    worker: WorkerName
    round: int
    reason: str


@dataclass(frozen=True)
class WorkerRevoked:
    """A worker's certificate is revoked: neither it nor its update counts any more; a new certificate begins anew."""

    worker: WorkerName
    reason: str


@dataclass(frozen=True)
class WorkerReconsidered:
    """A worker that had declined the round trains in it after all."""

    worker: WorkerName
    round: int


@dataclass(frozen=True)
class UpdatesAggregated:
    """The round's updates were checked and combined."""


@dataclass(frozen=True)
class AggregationFailed:
    """The round's updates cannot be aggregated safely."""

    reason: str


@dataclass(frozen=True)
class ModelEvaluated:
    """The new global model was judged on the unseen test set."""


@dataclass(frozen=True)
class RoundCommitted:
    """The round is durable; the run may end with it before all its rounds are done."""

    is_last: bool = False


@dataclass(frozen=True)
class StopRequested:
    """A person or the system wants the coordinator to stop."""

    reason: str


@dataclass(frozen=True)
class RoundRecovered:
    """An earlier process had begun the round that is next; these workers' updates are durable still."""

    cohort: frozenset[WorkerName]
    delivered: frozenset[WorkerName]


@dataclass(frozen=True)
class TimePassed:
    """`wake_at` was reached."""


Event = (
    WorkerJoined
    | WorkerLost
    | WorkerLeft
    | ModelDelivered
    | UpdateStored
    | WorkerDeclined
    | WorkerReconsidered
    | WorkerRevoked
    | UpdatesAggregated
    | AggregationFailed
    | ModelEvaluated
    | RoundCommitted
    | StopRequested
    | RoundRecovered
    | TimePassed
)


@dataclass(frozen=True)
class StartRound:
    """Prepare a round: from now on its updates are taken."""

    round: int


@dataclass(frozen=True)
class SendModel:
    """Offer the round's global model to a worker."""

    worker: WorkerName
    round: int


@dataclass(frozen=True)
class Aggregate:
    """Combine the updates of these workers (in this order)."""

    round: int
    workers: tuple[WorkerName, ...]


@dataclass(frozen=True)
class EvaluateModel:
    """Judge the new global model."""

    round: int


@dataclass(frozen=True)
class CommitRound:
    """Make the round durable, then tell the workers."""

    round: int


@dataclass(frozen=True)
class FinishRun:
    """All rounds are done."""


@dataclass(frozen=True)
class ParkRun:
    """Stop with everything saved, and say why."""

    reason: str


Command = StartRound | SendModel | Aggregate | EvaluateModel | CommitRound | FinishRun | ParkRun


class Rounds:
    """All rounds of a run, one after another.

    `handle` takes what happened and returns what to do; `wake_at` says when to come back with `TimePassed`.
    `round_number` is the round under way or next. Times are seconds of one monotonic clock.
    """

    def __init__(
        self,
        settings: RunSettings,
        *,
        first_round: int,
        known_workers: tuple[WorkerName, ...],
        grace_s: float,
        now: float,
        is_complete: bool = False,
    ) -> None:
        """`is_complete`: the rounds before `first_round` were all."""
        self._settings = settings
        self._grace_s = grace_s
        self._is_fresh = not known_workers
        self.round_number = first_round
        self.phase = Phase.FINISHED if is_complete or first_round > settings.rounds else Phase.WAITING
        self.connected: set[WorkerName] = set()
        self._lost: dict[WorkerName, float] = dict.fromkeys(known_workers, now)
        self._cohort: set[WorkerName] = set()
        self._recovered: RoundRecovered | None = None
        self._has_model: set[WorkerName] = set()
        self._delivered: set[WorkerName] = set()
        self._declined: dict[WorkerName, str] = {}
        self._is_spoilt = False  # what is being aggregated or evaluated has an update in it that counts no more
        self._phase_began = now
        self._deadline: float | None = None
        self._stopping: str | None = None
        self._given_up: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the run has finished or parked."""
        return self.phase in (Phase.FINISHED, Phase.PARKED)

    @property
    def cohort(self) -> frozenset[WorkerName]:
        """Who was asked for an update of this round."""
        return frozenset(self._cohort)

    @property
    def delivered(self) -> frozenset[WorkerName]:
        """Whose updates of this round are durable."""
        return frozenset(self._delivered)

    @property
    def declined(self) -> dict[WorkerName, str]:
        """Who does not train in this round, and why."""
        return dict(self._declined)

    def handle(self, event: Event, *, now: float) -> list[Command]:
        """Take one event and return the commands that follow from it, in order."""
        commands = self._note(event, now)
        while (turn := self._turn(event, now)) is not None:
            self.phase = TRANSITIONS[self.phase, turn]
            commands += self._enter(turn, now)
            event = TimePassed()
        return commands

    def wake_at(self, *, now: float) -> float | None:
        """Return when time alone may change something, or None."""
        if self.phase not in (Phase.WAITING, Phase.DISTRIBUTING, Phase.COLLECTING, Phase.FINISHED):
            return None
        moments = [when + self._grace_s for when in self._lost.values()]
        if self.phase is not Phase.FINISHED:
            moments += self._limits()
        return min((moment for moment in moments if moment > now), default=None)

    def refusal(self, worker: WorkerName, round_number: int) -> str | None:
        """Return why an update of this worker and round is not taken now, or None."""
        if round_number != self.round_number or self.phase not in (Phase.DISTRIBUTING, Phase.COLLECTING):
            return f"round {round_number} is closed: the update came too late and counts in no round"
        if worker not in self._cohort:
            return f"{worker} is not part of round {round_number}"
        return None

    def missing(self, *, now: float) -> tuple[WorkerName, ...]:
        """Return the workers that the round still waits for, by name."""
        settled = self._delivered | self._declined.keys()
        return tuple(sorted((self._cohort | self.connected) & self._expected(now) - settled))

    def awaited(self, *, now: float) -> frozenset[WorkerName]:
        """Return who is not connected and may still come back."""
        return frozenset(self._expected(now) - self.connected)

    def remaining_s(self, *, now: float) -> float:
        """Return the seconds until the round's deadline, at least 0."""
        return max(0.0, self._deadline - now) if self._deadline is not None else self._settings.deadline_s

    def admits(self, worker: WorkerName, *, now: float) -> bool:
        """Whether this worker may take part: the run's cohort has a place, or this worker already holds one."""
        others = (self.connected | self._expected(now)) - {worker}
        return len(others) < self._settings.workers

    def _note(self, event: Event, now: float) -> list[Command]:
        match event:
            case WorkerJoined(worker):
                self.connected.add(worker)
                self._lost.pop(worker, None)
                return self._include(worker)
            case WorkerLost(worker):
                self.connected.discard(worker)
                self._lost[worker] = now
            case WorkerLeft(worker):
                self.connected.discard(worker)
                self._lost.pop(worker, None)
            case ModelDelivered(worker, number) if number == self.round_number:
                self._has_model.add(worker)
            case UpdateStored(worker, number) if self.refusal(worker, number) is None:
                self._delivered.add(worker)
                self._declined.pop(worker, None)
            case WorkerDeclined(worker, number, reason) if self.refusal(worker, number) is None:
                if worker not in self._delivered:
                    self._declined[worker] = reason
            case WorkerReconsidered(worker, number) if number == self.round_number:
                self._declined.pop(worker, None)
            case WorkerRevoked(worker):
                self._forget(worker)
            case AggregationFailed(reason):
                self._given_up = reason
            case StopRequested(reason):
                self._stopping = reason
            case RoundRecovered() if self.phase is Phase.WAITING:
                self._recovered = event
                self._lost = dict.fromkeys(event.cohort - self.connected, now) | self._lost
        return []

    def _forget(self, worker: WorkerName) -> None:
        is_counted = worker in self._delivered and self.phase in (Phase.AGGREGATING, Phase.EVALUATING)
        self._is_spoilt = self._is_spoilt or is_counted
        self._lost.pop(worker, None)
        self._declined.pop(worker, None)
        for group in (self.connected, self._cohort, self._has_model, self._delivered):
            group.discard(worker)

    def _include(self, worker: WorkerName) -> list[Command]:
        if self.phase not in (Phase.DISTRIBUTING, Phase.COLLECTING) or worker in self._delivered:
            return []
        self._cohort.add(worker)
        self._declined.pop(worker, None)  # it is asked again
        return [SendModel(worker, self.round_number)]

    def _turn(self, event: Event, now: float) -> Turn | None:
        match self.phase:
            case Phase.WAITING:
                return self._turn_while_waiting(now)
            case Phase.DISTRIBUTING | Phase.COLLECTING:
                return self._turn_while_collecting(now)
            case Phase.AGGREGATING:
                if self._given_up:
                    return Turn.GIVEN_UP
                return self._unless_spoilt(Turn.AGGREGATED) if isinstance(event, UpdatesAggregated) else None
            case Phase.EVALUATING:
                return self._unless_spoilt(Turn.EVALUATED) if isinstance(event, ModelEvaluated) else None
            case Phase.COMMITTING if isinstance(event, RoundCommitted):
                is_last = event.is_last or self.round_number >= self._settings.rounds
                return Turn.LAST_COMMITTED if is_last else Turn.COMMITTED
        return None

    def _unless_spoilt(self, turn: Turn) -> Turn:
        return Turn.SPOILT if self._is_spoilt else turn

    def _turn_while_waiting(self, now: float) -> Turn | None:
        if self._stopping:
            return Turn.GIVEN_UP
        if self._recovered or len(self.connected) >= self._settings.workers:
            return Turn.COHORT_COMPLETE
        if self._is_fresh:
            return None
        if len(self.connected) >= self._settings.quorum and self._expected(now) == self.connected:
            return Turn.COHORT_COMPLETE
        if now >= self._phase_began + self._settings.patience_s:
            self._given_up = self._below_quorum(len(self.connected), "connected")
            return Turn.GIVEN_UP
        return None

    def _turn_while_collecting(self, now: float) -> Turn | None:
        if self._stopping:
            return Turn.GIVEN_UP
        assert self._deadline is not None
        has_quorum = len(self._delivered) >= self._settings.quorum
        if has_quorum and (now >= self._deadline or not self.missing(now=now)):
            return Turn.UPDATES_COMPLETE
        if not has_quorum and now >= self._deadline + self._settings.patience_s:
            self._given_up = self._below_quorum(len(self._delivered), "delivered")
            return Turn.GIVEN_UP
        settled = self._has_model | self._delivered | self._declined.keys()
        if self.phase is Phase.DISTRIBUTING and self._cohort & self.connected <= settled:
            return Turn.MODEL_EVERYWHERE
        return None

    def _enter(self, turn: Turn, now: float) -> list[Command]:
        number = self.round_number
        match self.phase:
            case Phase.DISTRIBUTING:
                return self._begin_round(now)
            case Phase.COLLECTING if turn is Turn.SPOILT:
                return self._collect_again()
            case Phase.AGGREGATING:
                self._is_spoilt = False
                return [Aggregate(number, tuple(sorted(self._delivered)))]
            case Phase.EVALUATING:
                return [EvaluateModel(number)]
            case Phase.COMMITTING:
                return [CommitRound(number)]
            case Phase.WAITING:
                self.round_number, self._phase_began, self._deadline = number + 1, now, None
                self._cohort, self._has_model, self._delivered, self._declined = set(), set(), set(), {}
            case Phase.FINISHED:
                return [FinishRun()]
            case Phase.PARKED:
                return [ParkRun(self._stopping or self._given_up or turn.name)]
        return []

    def _begin_round(self, now: float) -> list[Command]:
        self._is_fresh = False
        self._phase_began, self._deadline = now, now + self._settings.deadline_s
        before, self._recovered = self._recovered, None
        self._cohort = self.connected | (before.cohort if before else set())
        self._has_model, self._delivered = set(), set(before.delivered if before else ())
        number, asked = self.round_number, sorted(self.connected - self._delivered)
        return [StartRound(number), *(SendModel(worker, number) for worker in asked)]

    def _collect_again(self) -> list[Command]:
        """Ask whoever is here and has delivered nothing: some came, or were told that they are late, in between."""
        self._cohort |= self.connected
        asked = sorted(self.connected - self._delivered - self._declined.keys())
        return [SendModel(worker, self.round_number) for worker in asked]

    def _expected(self, now: float) -> set[WorkerName]:
        return self.connected | {worker for worker, when in self._lost.items() if now < when + self._grace_s}

    def _limits(self) -> list[float]:
        """Return when the round, or the wait for workers, will have lasted for so long as it may."""
        if self._deadline is not None:
            return [self._deadline, self._deadline + self._settings.patience_s]
        return [] if self._is_fresh else [self._phase_began + self._settings.patience_s]

    def _below_quorum(self, count: int, verb: str) -> str:
        declined = [f"{worker} declined ({reason})" for worker, reason in sorted(self._declined.items())]
        return "; ".join(
            [
                f"round {self.round_number}: {count} of at least {self._settings.quorum} workers {verb} "
                f"within deadline and patience",
                *declined,
            ]
        )
