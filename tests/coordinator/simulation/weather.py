"""What the dice of a seed choose from.

What only a slow disk and a worker that comes back at once bring about would hardly ever come up among everything else.
So each seed has its weather, and leaves out some kinds of faults to have more of the others ("swarm testing", Groce
et al., ISSTA 2012).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Fault(enum.Enum):
    """What breaks without regard to what is being done."""

    COORDINATOR_DIES = enum.auto()
    COORDINATOR_STOPS = enum.auto()
    WORKER_DIES = enum.auto()
    LINK_BREAKS = enum.auto()
    WORKER_LEAVES = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What the dice choose from; factors are of the time that a round takes without faults, about."""

    name: str
    generous_chance: float = 0.4
    repeats_chance: float = 0.5
    heals_s: tuple[float, float] = (5.0, 60.0)
    messages_s: tuple[float, ...] = (0.05, 0.4, 1.5)
    syncs_s: tuple[float, ...] = (0.01, 0.1, 1.5)
    writes_s: tuple[float, ...] = (0.01, 0.1, 1.5)
    computing_s: tuple[float, ...] = (1.0,)
    trainings_s: tuple[float, ...] = (0.5, 3.0)
    outages_s: tuple[float, ...] = (0.5, 2.0, 10.0, 40.0)
    cut_chances: tuple[float, ...] = (0.0, 0.0, 0.01, 0.03, 0.06)
    coordinator_crash_chances: tuple[float, ...] = (0.0, 0.0, 0.01, 0.03, 0.06)
    crash_once_closed_chances: tuple[float, ...] = (0.0, 0.05)
    worker_crash_chances: tuple[float, ...] = (0.0, 0.0, 0.01, 0.03, 0.06)
    crash_once_sent_chances: tuple[float, ...] = (0.0, 0.05)
    disk_loss_chances: tuple[float, ...] = (0.0, 0.2)
    rounds: tuple[int, ...] = (1, 2, 3, 9)
    grace_factors: tuple[float, ...] = (0.1, 1.0, 10.0)
    deadline_factors: tuple[float, ...] = (0.5, 2.0, 10.0)
    faults: tuple[Fault, ...] = tuple(Fault)


FAIR = Weather(name="fair")
SLOW_DISK = Weather(  # an update is durable long after it has come, and its worker is back before that
    name="slow disk",
    generous_chance=0.1,
    repeats_chance=0.2,
    heals_s=(30.0, 60.0),
    syncs_s=(4.0, 10.0),
    trainings_s=(0.1,),
    outages_s=(0.5,),
    cut_chances=(0.0, 0.01),
    coordinator_crash_chances=(0.0, 0.03),
    worker_crash_chances=(0.0, 0.03),
    crash_once_sent_chances=(0.6,),
    disk_loss_chances=(0.5,),
    rounds=(1, 2),
    grace_factors=(10.0,),
    deadline_factors=(10.0,),
)
LONG_ABSENCES = Weather(  # others commit several rounds meanwhile
    name="long absences",
    generous_chance=0.0,
    syncs_s=(0.01,),
    writes_s=(0.01,),
    trainings_s=(0.1, 0.5),
    outages_s=(5.0, 20.0),
    cut_chances=(0.0, 0.01),
    coordinator_crash_chances=(0.0,),
    worker_crash_chances=(0.06, 0.1),
    rounds=(6,),
    grace_factors=(0.1, 0.3),
    deadline_factors=(2.0, 10.0),
)
LATE = Weather(  # rounds close while a model is on its way, and begin again
    name="late",
    generous_chance=0.0,
    heals_s=(60.0, 120.0),
    messages_s=(1.5,),
    syncs_s=(0.1,),
    writes_s=(0.01,),
    trainings_s=(0.1,),
    outages_s=(40.0,),
    cut_chances=(0.0, 0.01),
    coordinator_crash_chances=(0.0, 0.01),
    crash_once_closed_chances=(0.5,),
    worker_crash_chances=(0.1,),
    rounds=(2,),
    grace_factors=(20.0,),
    deadline_factors=(6.0,),
)
AT_THE_END = Weather(  # links break while the last round is combined
    name="at the end",
    generous_chance=1.0,
    heals_s=(8.0, 25.0),
    syncs_s=(0.1,),
    writes_s=(0.01,),
    computing_s=(5.0,),
    outages_s=(40.0,),
    cut_chances=(0.0, 0.03),
    coordinator_crash_chances=(0.0, 0.01),
    rounds=(1,),
    faults=(Fault.COORDINATOR_STOPS, Fault.WORKER_DIES, Fault.LINK_BREAKS),
)
WEATHERS = (FAIR, FAIR, SLOW_DISK, LONG_ABSENCES, LATE, AT_THE_END)
