"""The network between the coordinator and a worker: what is said arrives in order, until a connection breaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fednet.protocol import limits
from tests.coordinator.simulation.clock import World

NBYTES = 2  # of a model and of an update, one a chunk: transfers break in the middle

LOST = object()
"""What an end hears last."""

Hear = Callable[[object], None]


@dataclass(frozen=True)
class Chunk:
    """Bytes of a transfer."""

    transfer: int
    offset: int
    content: str


def _is_deaf(said: object) -> None:
    """Nobody is at this end yet."""


class Way:
    """One direction of a connection: what is said arrives in order, or not at all from some moment on."""

    def __init__(self, world: World, connection: Connection, who: str) -> None:
        self.hear: Hear = _is_deaf
        self._world, self._connection, self._who = world, connection, who
        self._last = 0.0
        self._open_until = math.inf

    def send(self, said: object) -> None:
        """Say something; on a connection that is gone it goes nowhere."""
        world = self._world
        if world.now <= self._open_until:
            self._last = max(self._last, world.now + world.plan.message_s * world.dice.random() ** 3)
            world.at(self._last, self._arrive, said)

    def end(self, until: float, *, notices_s: float) -> None:
        """Carry nothing more after a moment; the end at the far side hears of it some time later."""
        if self._open_until == math.inf:
            self._open_until = until
            self._world.at(max(self._world.soon(notices_s), until), self._notice)

    @property
    def last(self) -> float:
        """When everything has arrived that was said."""
        return max(self._last, self._world.now)

    def close(self) -> None:
        """Let nothing more arrive."""
        self._open_until = -math.inf

    def _notice(self) -> None:
        self.hear(LOST)

    def _arrive(self, said: object) -> None:
        world = self._world
        if world.now > self._open_until:
            return
        if world.strikes(world.plan.cut_chance):
            self._connection.cut()
            self.close()  # nothing arrives of what was said after it
            return
        world.say(self._who, "hears", said)
        self.hear(said)


class Connection:
    """A worker's connection: two ways that break together."""

    def __init__(self, world: World, worker: str) -> None:
        self._world = world
        self.is_over = False
        self.has_broken = False  # what was said at the end may not have arrived
        self.to_worker = Way(world, self, worker)
        self.to_coordinator = Way(world, self, "coordinator")

    def cut(self) -> None:
        """Break: what is on its way is lost, now or in a moment; each end notices in its own time."""
        self.has_broken = True
        if self.is_over:
            return
        self.is_over = True
        self._world.counts["cuts"] += 1
        self._world.say("network", "cuts a connection")
        late_s = self._world.dice.choice((1.0, limits.DEAD_AFTER_S))
        for way, notices_s in ((self.to_worker, 2.0), (self.to_coordinator, late_s)):
            way.end(self._world.soon(0.2), notices_s=notices_s)

    def close_by_coordinator(self) -> None:
        """End it after what was said."""
        self.is_over = True
        self.to_coordinator.close()
        self.to_worker.end(self.to_worker.last, notices_s=0.0)

    def close_by_worker(self) -> None:
        """End it after what was said."""
        self.is_over = True
        self.to_worker.close()
        self.to_coordinator.end(self.to_coordinator.last, notices_s=1.0)
