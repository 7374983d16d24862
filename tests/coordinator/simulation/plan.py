"""What one seed plays: the run, how slow everything is, and what breaks.

Each seed leaves out some kinds of faults and has more of the others ("swarm testing", Groce et al., ISSTA 2012): what
only a slow disk and a worker that comes back at once bring about would hardly ever come up among everything else.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass
from functools import cached_property

from fednet.config import RunSettings, WorkerName
from fednet.protocol import limits

GENEROUS_S = 4000.0  # no outage takes so long


class Fault(enum.Enum):
    """What breaks without regard to what is being done."""

    COORDINATOR_DIES = enum.auto()
    COORDINATOR_STOPS = enum.auto()
    WORKER_DIES = enum.auto()
    LINK_BREAKS = enum.auto()
    WORKER_LEAVES = enum.auto()
    DISK_IS_LOST = enum.auto()  # a worker's


_HARMLESS = (Fault.COORDINATOR_DIES, Fault.COORDINATOR_STOPS, Fault.WORKER_DIES, Fault.LINK_BREAKS)
"""Whatever they do, everybody can deliver the update that the undisturbed run has."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The run, and how much of what breaks."""

    everybody_can_deliver: bool  # deadline, patience and grace outlast every outage
    training_repeats: bool  # bit by bit
    settings: RunSettings
    grace_s: float
    heals_s: float  # nothing breaks from then on
    cut_chance: float  # for each message on its way
    coordinator_crash_chance: float  # for each write, before and after it
    worker_crash_chance: float
    slowest_message_s: float
    slowest_write_s: float
    longest_training_s: float
    longest_outage_s: float
    headers_at_a_time: int
    sudden: tuple[tuple[float, Fault], ...]

    @cached_property
    def workers(self) -> tuple[WorkerName, ...]:
        """Everybody who takes part, by name."""
        return tuple(WorkerName(f"client{number}") for number in range(1, self.settings.workers + 1))

    def answers_within_s(self, *, behind: int) -> float:
        """Return how long it takes at most from offering a model to having the update, where nothing breaks.

        `behind`: records of which the worker has yet to ask for the headers.
        """
        messages_s = (12 + 2 * behind) * self.slowest_message_s
        writes_s = (6 + behind + 2 * self.settings.workers) * self.slowest_write_s  # one database for all
        return messages_s + writes_s + self.longest_training_s + 0.5

    @property
    def stops_within_s(self) -> float:
        """Return how long a coordinator takes at most to stop: it may have a round to begin and one to commit."""
        return 5.0 + (12 + 2 * self.settings.workers) * self.slowest_write_s

    @property
    def ends_within_s(self) -> float:
        """When the run has ended at the latest: half the deadline where nobody need wait for one."""
        return self.heals_s + (self.settings.deadline_s / 2 if self.everybody_can_deliver else 10_000.0)


def plan_of(dice: random.Random) -> Plan:
    """Draw one."""
    is_generous = dice.random() < 0.4
    message_s, write_s, training_s = (
        dice.choice((0.05, 0.4, 1.5)),
        dice.choice((0.01, 0.1, 1.5, 4.0)),
        dice.choice((0.5, 3.0)),
    )
    typical_s = 3 * message_s + 4 * write_s + training_s  # of a round
    heals_s = dice.uniform(5.0, 60.0)
    return Plan(
        everybody_can_deliver=is_generous,
        training_repeats=is_generous or dice.random() < 0.5,
        settings=_settings_of(dice, is_generous=is_generous, typical_s=typical_s),
        grace_s=GENEROUS_S if is_generous else typical_s * dice.uniform(0.05, dice.choice((3.0, 20.0))),
        heals_s=heals_s,
        cut_chance=_chance_of(dice),
        coordinator_crash_chance=_chance_of(dice),
        worker_crash_chance=_chance_of(dice),
        slowest_message_s=message_s,
        slowest_write_s=write_s,
        longest_training_s=training_s,
        longest_outage_s=dice.choice((0.5, 2.0, 10.0, 40.0)),
        headers_at_a_time=dice.randint(1, limits.MAX_RECORDS),
        sudden=_sudden_of(dice, heals_s, _HARMLESS if is_generous else tuple(Fault)),
    )


def _chance_of(dice: random.Random) -> float:
    return dice.choice((0.0, 0.0, 0.01, 0.03, 0.06))


def _sudden_of(dice: random.Random, heals_s: float, possible: tuple[Fault, ...]) -> tuple[tuple[float, Fault], ...]:
    kinds = dice.sample(possible, dice.randint(1, len(possible)))
    return tuple((dice.uniform(0.0, heals_s), dice.choice(kinds)) for _ in range(dice.randint(0, 6)))


def _settings_of(dice: random.Random, *, is_generous: bool, typical_s: float) -> RunSettings:
    workers = dice.randint(2, 4)
    return RunSettings(
        model="m",
        image_size=64,
        classes=("a",),
        workers=workers,
        quorum=dice.randint(1, workers if is_generous else workers - 1),
        rounds=dice.choice((1, 2, 3) if is_generous else (2, 3, 9)),
        deadline_s=GENEROUS_S if is_generous else typical_s * dice.uniform(0.3, dice.choice((4.0, 20.0))),
        patience_s=GENEROUS_S if is_generous else typical_s * dice.uniform(0.5, 5.0),
    )
