"""What one seed plays: the run, how slow everything is, and what breaks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fednet.config import RunSettings, WorkerName
from fednet.protocol import limits
from tests.coordinator.simulation.weather import WEATHERS, Fault, Weather

GENEROUS_S = 4000.0  # no outage takes so long

_WAITED_FOR = frozenset(Fault) - {Fault.WORKER_LEAVES}
"""After these everybody is expected back."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The run, and how much of what breaks."""

    weather: str
    everybody_can_deliver: bool  # deadline, patience and grace outlast every outage
    training_repeats: bool  # bit by bit
    settings: RunSettings
    grace_s: float
    heals_s: float  # nothing breaks from then on
    cut_chance: float  # for each message on its way
    coordinator_crash_chance: float  # for each write, before and after it
    crash_once_closed_chance: float  # the coordinator's, when a round's updates are combined
    worker_crash_chance: float
    crash_once_sent_chance: float  # a worker's, when its update has just arrived, or nearly
    disk_loss_chance: float  # for each crash of a worker
    message_s: float  # at most, as all that follow
    sync_s: float  # the coordinator: the content of a large file
    write_s: float  # anything else
    worker_write_s: float
    computing_s: float  # to combine, and to evaluate
    training_s: float
    outage_s: float
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
        messages_s = (12 + 2 * behind) * self.message_s
        writes_s = self.sync_s + (2 + 2 * self.settings.workers) * self.write_s + (3 + behind) * self.worker_write_s
        return messages_s + writes_s + self.training_s + 0.5

    @property
    def stops_within_s(self) -> float:
        """Return how long a coordinator takes at most to stop: it may have a round to begin and one to commit."""
        return 3.0 + 2 * self.computing_s + self.sync_s + (12 + 2 * self.settings.workers) * self.write_s

    @property
    def ends_within_s(self) -> float:
        """When the run has ended at the latest: half the deadline where nobody need wait for one."""
        return self.heals_s + (self.settings.deadline_s / 2 if self.everybody_can_deliver else 10_000.0)


def plan_of(dice: random.Random, weathers: Sequence[Weather] = WEATHERS) -> Plan:
    """Draw one."""
    weather = dice.choice(weathers)
    is_generous = dice.random() < weather.generous_chance
    message_s, sync_s, write_s, training_s = (
        dice.choice(choices) for choices in (weather.messages_s, weather.syncs_s, weather.writes_s, weather.trainings_s)
    )
    typical_s = 3 * message_s + sync_s + 3 * write_s + training_s  # of a round
    heals_s = dice.uniform(*weather.heals_s)
    return Plan(
        weather=weather.name,
        everybody_can_deliver=is_generous,
        training_repeats=is_generous or dice.random() < weather.repeats_chance,
        settings=_settings_of(dice, weather, is_generous=is_generous, typical_s=typical_s),
        grace_s=GENEROUS_S if is_generous else typical_s * _around(dice, weather.grace_factors),
        heals_s=heals_s,
        cut_chance=dice.choice(weather.cut_chances),
        coordinator_crash_chance=dice.choice(weather.coordinator_crash_chances),
        crash_once_closed_chance=dice.choice(weather.crash_once_closed_chances),
        worker_crash_chance=dice.choice(weather.worker_crash_chances),
        crash_once_sent_chance=dice.choice(weather.crash_once_sent_chances),
        disk_loss_chance=dice.choice(weather.disk_loss_chances),
        message_s=message_s,
        sync_s=sync_s,
        write_s=write_s,
        worker_write_s=dice.choice((0.01, 0.5)),
        computing_s=dice.choice(weather.computing_s),
        training_s=training_s,
        outage_s=dice.choice(weather.outages_s),
        headers_at_a_time=dice.randint(1, limits.MAX_RECORDS),
        sudden=_sudden_of(dice, heals_s, [each for each in weather.faults if not is_generous or each in _WAITED_FOR]),
    )


def _settings_of(dice: random.Random, weather: Weather, *, is_generous: bool, typical_s: float) -> RunSettings:
    workers = dice.randint(2, 4)
    return RunSettings(
        model="m",
        image_size=64,
        classes=("a",),
        workers=workers,
        quorum=dice.randint(1, workers if is_generous else workers - 1),
        rounds=min(dice.choice(weather.rounds), 3 if is_generous else 100),
        deadline_s=GENEROUS_S if is_generous else typical_s * _around(dice, weather.deadline_factors),
        patience_s=GENEROUS_S if is_generous else typical_s * dice.uniform(0.5, 5.0),
    )


def _sudden_of(dice: random.Random, heals_s: float, possible: Sequence[Fault]) -> tuple[tuple[float, Fault], ...]:
    kinds = dice.sample(possible, dice.randint(1, len(possible)))
    return tuple((dice.uniform(0.0, heals_s), dice.choice(kinds)) for _ in range(dice.randint(0, 6)))


def _around(dice: random.Random, choices: tuple[float, ...]) -> float:
    return dice.choice(choices) * dice.uniform(0.5, 2.0)
