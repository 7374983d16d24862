"""A whole federated run, played from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fednet.coordinator.round import Rounds
from fednet.worker.session import WorkerSession
from tests.coordinator.simulation.clock import World
from tests.coordinator.simulation.coordinator import Coordinator
from tests.coordinator.simulation.database import Database
from tests.coordinator.simulation.desk import Desk
from tests.coordinator.simulation.disk import Disk
from tests.coordinator.simulation.session import Session
from tests.coordinator.simulation.weather import WEATHERS, Fault, Weather
from tests.coordinator.simulation.witness import Violation, Witness
from tests.coordinator.simulation.worker import Worker


@dataclass(frozen=True, kw_only=True)
class Cast:
    """Who plays: the cores, and the models of the shells around them."""

    coordinator: type[Coordinator] = Coordinator
    rounds: type[Rounds] = Rounds
    desk: type[Desk] = Desk
    session: type[Session] = Session
    worker_session: type[WorkerSession] = WorkerSession


class Federation:
    """Everybody in one seed's run."""

    def __init__(self, world: World, cast: Cast) -> None:
        disk, database = Disk(), Database()
        self._world = world
        self._witness = witness = Witness(world, disk, database)
        self._coordinator = coordinator = cast.coordinator(
            world, witness, disk, database, rounds=cast.rounds, desk=cast.desk, session=cast.session
        )
        self._workers = [
            Worker(world, witness, coordinator, name, session=cast.worker_session) for name in world.plan.workers
        ]

    def play(self) -> None:
        """Play until the run has ended and the workers have heard of it; raises `Violation`."""
        try:
            self._play()
            self._witness.ended()
        finally:
            self._world.close()

    def _play(self) -> None:
        world = self._world
        self._coordinator.start()
        for worker in self._workers:
            world.at(world.soon(2.0), worker.start)
        for moment, fault in world.plan.sudden:
            world.at(moment, self._strike, fault)
        world.play()

    def _strike(self, fault: Fault) -> None:
        worker = self._world.dice.choice(self._workers)
        strike = {
            Fault.COORDINATOR_DIES: self._coordinator.crash,
            Fault.COORDINATOR_STOPS: self._coordinator.stop,
            Fault.WORKER_DIES: worker.crash,
            Fault.LINK_BREAKS: worker.lose_link,
            Fault.WORKER_LEAVES: worker.leave,
        }
        strike[fault]()


def simulate(
    seed: int,
    *,
    weathers: Sequence[Weather] = WEATHERS,
    cast: Cast = Cast(),
    tell: Callable[[str], None] | None = None,
) -> Counter[str]:
    """Play a seed and return what happened in it; raises `Violation` with the end of its trace.

    `tell` is given all of the trace, line by line.
    """
    world = World(seed, weathers=weathers, tell=tell)
    try:
        Federation(world, cast).play()
    except Violation as exc:
        raise Violation(exc.claim, f"{exc.found}\n{_report(seed, world)}") from exc
    except Exception as exc:
        exc.add_note(_report(seed, world))
        raise
    return world.counts


def _report(seed: int, world: World) -> str:
    return "\n".join([f"seed {seed}, {world.plan}", *world.trace(), f"seed {seed}, played again, shows all of it"])
