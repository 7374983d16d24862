"""What a coordinator and a worker tell whoever watches; the console is one of these, tests use another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from fednet.config import WorkerName
from fednet.protocol.messages import RoundClosed


@dataclass(kw_only=True)
class WorkerView:
    """What the coordinator knows of one worker at this moment."""

    name: WorkerName
    activity: str = "joined"
    fraction: float = 0.0  # of the activity, 0 to 1
    remaining_s: float | None = None
    images_per_s: float = 0.0
    loss: float | None = None
    samples: int = 0
    device: str = ""
    is_connected: bool = True
    last_seen: datetime | None = None  # UTC: when anything of it came, a heartbeat too
    certificate_expires: datetime | None = None  # UTC

    def sentence(self) -> str:
        """Return for example `client3 is training, 62 %, about 40 s left`."""
        text = f"{self.name} {'is ' if self.is_connected else ''}{self.activity}"
        if self.is_connected and 0 < self.fraction < 1:
            text += f", {self.fraction:.0%}"
        if self.is_connected and self.remaining_s:
            text += f", about {self.remaining_s:.0f} s left"
        return text


class Progressing(Protocol):
    """What is shown of a training under way (worker.training.TrainingProgress)."""

    @property
    def fraction(self) -> float: ...
    @property
    def remaining_s(self) -> float: ...
    @property
    def images_per_s(self) -> float: ...
    @property
    def loss(self) -> float | None: ...
    @property
    def epoch(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def batches(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """How far the round's model has come to a worker, or its update to the coordinator."""

    is_update: bool
    done: int  # bytes that the receiver has taken
    total: int

    @property
    def fraction(self) -> float:
        """Return how far it is, 0 to 1."""
        return self.done / max(1, self.total)

    def sentence(self) -> str:
        """Return for example `12.3 of 44.7 MB of the update are sent`."""
        what = "the update are sent" if self.is_update else "the model are here"
        return f"{self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB of {what}"


class RunReporter(Protocol):
    """Shows a coordinator's run. Called in a thread of its own (aside.py): a terminal may stand still."""

    def notice(self, text: str) -> None:
        """Show one line that stays."""

    def status(self, text: str, views: list[WorkerView]) -> None:
        """Show what the run waits for, and every worker; called about once a second."""

    def round_committed(self, document: dict[str, Any]) -> None:
        """Show the table row of a finished round (an entry of history.json)."""

    def close(self) -> None:
        """Show nothing more."""


class Together:
    """Tells several reporters of a run."""

    def __init__(self, *reporters: RunReporter) -> None:
        self._reporters = reporters

    def notice(self, text: str) -> None:
        """Show one line in each."""
        for each in self._reporters:
            each.notice(text)

    def status(self, text: str, views: list[WorkerView]) -> None:
        """Show in each what the run waits for."""
        for each in self._reporters:
            each.status(text, views)

    def round_committed(self, document: dict[str, Any]) -> None:
        """Show a finished round in each."""
        for each in self._reporters:
            each.round_committed(document)

    def close(self) -> None:
        """Close each."""
        for each in self._reporters:
            each.close()


class WorkerReporter(Protocol):
    """Shows a worker's part in a run. Called in a thread of its own, as a `RunReporter`."""

    def notice(self, text: str) -> None:
        """Show one line that stays."""

    def training(self, round_number: int, progress: Progressing) -> None:
        """Show how far local training is; called about once a second."""

    def transferring(self, round_number: int, transfer: Transfer) -> None:
        """Show how far a transfer is; called about once a second while one is under way."""

    def round_closed(self, closed: RoundClosed) -> None:
        """Show what became of this worker's update."""

    def close(self) -> None:
        """Show nothing more."""


class NullReporter:
    """Shows nothing."""

    def notice(self, text: str) -> None:
        """Show nothing."""

    def status(self, text: str, views: list[WorkerView]) -> None:
        """Show nothing."""

    def round_committed(self, document: dict[str, Any]) -> None:
        """Show nothing."""

    def training(self, round_number: int, progress: Progressing) -> None:
        """Show nothing."""

    def transferring(self, round_number: int, transfer: Transfer) -> None:
        """Show nothing."""

    def round_closed(self, closed: RoundClosed) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""
