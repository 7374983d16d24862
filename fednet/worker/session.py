"""A worker's part in a run as a pure state machine: what the coordinator says in, what to do out.

One task at a time: receive the round's model, train on it, deliver the update. The task outlives a connection: after
a reconnect the model is received from where it stopped, training goes on, and a trained update is offered again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fednet.audit.own_chain import OwnChain, Shown
from fednet.audit.record import read_header
from fednet.config import TrainingSettings
from fednet.errors import AuditError, BadInput, RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.messages import (
    Goodbye,
    Message,
    ModelWanted,
    Records,
    RecordsWanted,
    RoundClosed,
    RoundDeclined,
    RoundStarted,
    RunStatus,
    UpdateAccepted,
    UpdateOffered,
    UpdateRefused,
    UpdateWanted,
)
from fednet.worker.consent import WorkerConsent

NOTHING: Mapping[int, str] = MappingProxyType({})
_OTHER_UPDATE = (
    "Warning: round {}: the coordinator has update {:.12}... of this hospital, not {:.12}..., the one at hand. "
    "That is right if an earlier process, whose disk was lost, sent it; else ask the centre"
)


class Stage(enum.Enum):
    """How far the worker is with its round."""

    IDLE = "waiting for a round"
    RECEIVING = "receiving the model"
    TRAINING = "training"
    DELIVERING = "delivering the update"
    DELIVERED = "waiting for the others"


@dataclass(frozen=True)
class ModelReceived:
    """The whole model of the round is here and verified."""

    round: int


@dataclass(frozen=True, kw_only=True)
class UpdateSaved:
    """The round's training is done and its result safe on this worker's disk."""

    round: int
    nbytes: int
    sha256: str
    samples: int
    train_s: float
    loss: float
    confusion: tuple[int, ...] = ()  # what is told of the round's model, as UPDATE_OFFERED carries it
    epsilon: float = 0.0  # what this hospital has spent of its privacy; 0: it keeps none
    delta: float = 0.0


@dataclass(frozen=True)
class LinkLost:
    """The connection broke; the task goes on without it."""


@dataclass(frozen=True)
class Heard:
    """The coordinator said something."""

    message: Message


@dataclass(frozen=True)
class LookedAgain:
    """Some time has passed: what stood against training may be gone."""


Event = Heard | LinkLost | ModelReceived | UpdateSaved | LookedAgain


@dataclass(frozen=True)
class Send:
    """Send this message."""

    message: Message


@dataclass(frozen=True)
class BeginTask:
    """Forget the task before (stop its training) and prepare to receive this round's model."""

    started: RoundStarted


@dataclass(frozen=True)
class ReceiveModel:
    """Ask for the model as this transfer, from where it stopped, and take it."""

    started: RoundStarted


@dataclass(frozen=True)
class StopReceiving:
    """The coordinator sends no more of the model."""


@dataclass(frozen=True)
class Train:
    """Train on the round's model, or take up what an earlier process saved for it."""

    started: RoundStarted
    training: TrainingSettings


@dataclass(frozen=True)
class DropTask:
    """Forget the task: stop receiving its model, or training on it."""


@dataclass(frozen=True)
class KeepOffered:
    """Remember what is about to leave this hospital."""

    update: UpdateSaved


@dataclass(frozen=True)
class SendUpdate:
    """Send the update's bytes as this transfer, within the coordinator's window."""

    transfer: int
    offset: int
    window: int


@dataclass(frozen=True)
class KeepAcknowledged:
    """Remember which update the coordinator has."""

    round: int
    sha256: str


@dataclass(frozen=True)
class KeepWithdrawn:
    """Remember that the coordinator has taken an acknowledgement back."""

    round: int


@dataclass(frozen=True)
class KeepHeader:
    """Remember a header of the run's chain that lies between two records."""

    header: bytes


@dataclass(frozen=True)
class KeepRecord:
    """Remember a record that has been checked."""

    shown: Shown


@dataclass(frozen=True)
class ShowRound:
    """Tell the person what became of the round."""

    closed: RoundClosed


@dataclass(frozen=True)
class ShowNotice:
    """Tell the person a line."""

    text: str


@dataclass(frozen=True)
class Leave:
    """Decline the run: tell the coordinator why and stop for good."""

    reason: str


@dataclass(frozen=True)
class SessionEnded:
    """The coordinator said goodbye."""

    code: str
    reason: str


Command = (
    Send
    | BeginTask
    | ReceiveModel
    | StopReceiving
    | Train
    | DropTask
    | KeepOffered
    | SendUpdate
    | KeepAcknowledged
    | KeepWithdrawn
    | KeepHeader
    | KeepRecord
    | ShowRound
    | ShowNotice
    | Leave
    | SessionEnded
)


class WorkerSession:
    """What one worker does, across all its connections to one run."""

    def __init__(
        self,
        *,
        consent: WorkerConsent,
        chain: OwnChain,
        acknowledged: Mapping[int, str] = NOTHING,
        objection_now: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`chain`: the run's record as far as it is known; `acknowledged`: round -> digest of the update it has.

        `objection_now` says what stands against beginning to train at this moment.
        """
        self._chain = chain
        self._acknowledged = dict(acknowledged)
        self._unproven: RoundClosed | None = None  # waits for headers that lie between
        self._between: list[bytes] = []  # these, until a record proves them
        self._consent = consent
        self._objection_now = objection_now
        self._declined: RoundStarted | None = None  # for a reason that may pass
        self.stage = Stage.IDLE
        self._started: RoundStarted | None = None
        self._update: UpdateSaved | None = None
        self._transfer = 0
        self._is_attached = False  # the coordinator at the other end has (again) started the round of our task

    @property
    def round_number(self) -> int | None:
        """The round of the task at hand."""
        return self._started.round if self._started else None

    def handle(self, event: Event) -> list[Command]:
        """Take one event and return what follows.

        Raises `RemoteProtocolError` for an answer that fits nothing, `AuditError` for a record that contradicts what
        this hospital knows.
        """
        match event:
            case Heard(message):
                return self._heard(message)
            case LinkLost():
                self._is_attached, self._unproven, self._declined = False, None, None
            case ModelReceived(number) if (
                self._started and number == self._started.round and self.stage is Stage.RECEIVING
            ):
                return self._model_received(self._started)
            case LookedAgain() if self._declined is not None and self._objection_now() is None:
                return [ShowNotice(f"round {self._declined.round} is taken up after all"), *self._begin(self._declined)]
            case UpdateSaved() if event.round == self.round_number and self.stage is Stage.TRAINING:
                self._update, self.stage = event, Stage.DELIVERING
                return self._offer()
        return []

    def _heard(self, message: Message) -> list[Command]:
        match message:
            case RoundStarted():
                return self._round_started(message)
            case UpdateWanted() if message.round == self.round_number and message.transfer == self._transfer:
                return [SendUpdate(message.transfer, message.offset, message.window)]
            case UpdateAccepted():
                return self._accepted(message)
            case UpdateRefused():
                return self._refused(message)
            case RoundClosed():
                return self._closed(message)
            case Records():
                return self._records(message)
            case RunStatus():
                return [ShowNotice(message.text)]
            case Goodbye():
                return [SessionEnded(message.code, message.reason)]
        raise RemoteProtocolError(f"{message.kind.name} answers nothing this worker asked for")

    def _round_started(self, started: RoundStarted) -> list[Command]:
        training = _training_of(started.training)
        too_long = self._consent.objection_to_length(started.rounds)
        if too_long is not None:
            return [Leave(too_long)]
        was_attached, self._is_attached = self._is_attached, True
        objection = self._consent.objection_to_training(training)
        if objection is not None:
            return self._decline(started, objection, may_pass=False)
        if self._is_same_task(started):
            if was_attached:
                return []  # said twice, when the link broke while the round began
            self._started = started
            return self._resume(started)
        objection = self._objection_now()
        if objection is not None:
            return self._decline(started, objection, may_pass=True)
        return self._begin(started)

    def _begin(self, started: RoundStarted) -> list[Command]:
        self._started, self._update, self._declined, self.stage = started, None, None, Stage.RECEIVING
        return [BeginTask(started), ReceiveModel(started)]

    def _model_received(self, started: RoundStarted) -> list[Command]:
        objection = self._objection_now()
        if objection is not None:
            return self._decline(started, objection, may_pass=True)
        self.stage = Stage.TRAINING
        return [Train(started, _training_of(started.training))]

    def _decline(self, started: RoundStarted, reason: str, *, may_pass: bool) -> list[Command]:
        """Take no part in this round; where the reason `may_pass`, take it up once that is so and it goes on still."""
        self._started, self._update, self.stage = None, None, Stage.IDLE
        self._declined = started if may_pass else None
        declined = RoundDeclined(round=started.round, reason=reason)
        return [DropTask(), Send(declined), ShowNotice(f"round {started.round} declined: {reason}")]

    def _is_same_task(self, started: RoundStarted) -> bool:
        before = self._started
        return before is not None and (before.round, before.sha256) == (started.round, started.sha256)

    def _resume(self, started: RoundStarted) -> list[Command]:
        if self.stage is Stage.RECEIVING:
            return [ReceiveModel(started)]
        has_it = Send(ModelWanted(round=started.round, transfer=started.transfer, offset=started.nbytes))
        return [has_it, *self._offer()]

    def _offer(self) -> list[Command]:
        update = self._update
        if update is None or not self._is_attached:
            return []
        self._transfer += 1
        offer = UpdateOffered(
            round=update.round,
            transfer=self._transfer,
            nbytes=update.nbytes,
            sha256=update.sha256,
            samples=update.samples,
            train_s=update.train_s,
            loss=update.loss,
            confusion=list(update.confusion),
            epsilon=update.epsilon,
            delta=update.delta,
        )
        return [KeepOffered(update), Send(offer)]

    def _accepted(self, accepted: UpdateAccepted) -> list[Command]:
        is_own = accepted.round == self.round_number
        if is_own and self.stage is Stage.DELIVERED:
            return []  # said again, after a link broke
        if not is_own and self._started is not None:
            return []  # of a round that this worker has nothing to do with any more
        stops: list[Command] = [StopReceiving()] if is_own and self.stage is Stage.RECEIVING else []
        if is_own:
            self.stage = Stage.DELIVERED
        self._acknowledged[accepted.round] = accepted.sha256
        kept = [*stops, KeepAcknowledged(accepted.round, accepted.sha256)]
        if is_own and self._update is not None and accepted.sha256 != self._update.sha256:
            kept.append(ShowNotice(_OTHER_UPDATE.format(accepted.round, accepted.sha256, self._update.sha256)))
        return [*kept, ShowNotice(f"round {accepted.round}: the update arrived and is stored")]

    def _refused(self, refused: UpdateRefused) -> list[Command]:
        stops: list[Command] = []
        self._forget_declined(refused.round)
        if refused.round == self.round_number:
            stops = [StopReceiving()] if self.stage is Stage.RECEIVING else []
            if self._update is None:  # should the round begin again, the task does
                self._started, self.stage = None, Stage.IDLE
            else:
                self.stage = Stage.DELIVERED
            self._is_attached = False  # until the coordinator asks for it again
        if refused.code == "withdrawn" and self._acknowledged.pop(refused.round, None) is not None:
            stops.append(KeepWithdrawn(refused.round))
        return [*stops, ShowNotice(f"round {refused.round}: the update was not taken: {refused.reason}")]

    def _forget_declined(self, over: int) -> None:
        if self._declined is not None and self._declined.round <= over:
            self._declined = None

    def _closed(self, closed: RoundClosed) -> list[Command]:
        self._forget_declined(closed.round)
        shown, fields = _shown_in(closed), read_header(closed.header)
        if fields["round"] != closed.round:
            raise AuditError(f"round {closed.round}: the record that is shown is of round {fields['round']}")
        if self._chain.is_known(shown):
            return []
        after = self._chain.missing_after(shown)
        if after is not None:
            self._chain.check_signature(shown)
            self._unproven = closed
            return [Send(RecordsWanted(after=after))]
        self._unproven = None
        entry = self._chain.take(shown, sent=self._acknowledged.get(closed.round))
        _require_told(closed, entry, fields)
        between, self._between = self._between, []
        return [*(KeepHeader(header) for header in between), KeepRecord(shown), ShowRound(closed)]

    def _records(self, records: Records) -> list[Command]:
        waiting = self._unproven
        if waiting is None:
            return []  # asked for over a link that broke, or twice
        between = range(self._chain.round + 1, waiting.round)
        headers = [header for header in records.headers if read_header(header)["round"] in between]
        if not headers and any(read_header(header)["round"] <= self._chain.round for header in records.headers):
            return []  # asked for twice, answered twice
        if not headers:
            raise AuditError(f"round {waiting.round}: the coordinator does not show the records before it")
        self._chain.extend(headers)
        self._between += headers
        return self._closed(waiting)


def _require_told(closed: RoundClosed, entry: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Raise `AuditError` where the person is told something else than the record says."""
    told = {"verdict": closed.verdict, "weight": closed.weight, "reason": closed.reason, "metrics": closed.metrics}
    verdict = "absent" if not entry else "selected" if entry.get("selected") else "rejected"
    recorded = {"verdict": verdict, "metrics": header.get("test", {})}
    if entry:
        recorded |= {"weight": entry.get("weight"), "reason": str(entry.get("reason"))[: limits.MAX_TEXT]}
    for name, value in recorded.items():
        if told[name] != value:
            raise AuditError(f"round {closed.round}: told was {name} {told[name]!r}, the record says {value!r}")


def _shown_in(closed: RoundClosed) -> Shown:
    return Shown(
        header=closed.header,
        signature=closed.signature,
        certificate=closed.certificate,
        entry=closed.entry,
        position=closed.position,
        path=closed.path,
    )


def _training_of(document: dict[str, Any]) -> TrainingSettings:
    try:
        return TrainingSettings(**document)
    except (TypeError, BadInput) as exc:
        raise RemoteProtocolError(f"ROUND_STARTED.training cannot be used: {exc}") from exc
