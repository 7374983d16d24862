"""The clock, the dice and the trace of one seed; and who does something in its time: hosts, with their jobs."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import is_dataclass
from typing import TypeVar

from tests.coordinator.simulation.plan import plan_of
from tests.coordinator.simulation.weather import WEATHERS, Weather

Result = TypeVar("Result")
Job = Generator[float, None, Result]
"""What a host does over time: yields the moment until which it sleeps (infinity: until it is woken)."""

MOST_EVENTS = 40_000  # of one seed; a usual one has some hundred
TRACED = 40  # lines of a failing seed that are shown


_SHOWN = ("round", "worker", "workers", "cohort", "delivered", "transfer", "offset", "after", "code", "reason")
"""Of messages, events and commands."""


class Crashed(Exception):
    """The host of this job died under it."""


class World:
    """The clock, the dice and the trace of one seed. Times are seconds from its beginning."""

    def __init__(
        self, seed: int, *, weathers: Sequence[Weather] = WEATHERS, tell: Callable[[str], None] | None = None
    ) -> None:
        """`tell` is given each line of the trace."""
        self.dice = random.Random(seed)
        self.plan = plan_of(self.dice, weathers)
        self.now = 0.0
        self.ends_at = math.inf
        self.counts: Counter[str] = Counter()
        self.tasks: list[Task] = []
        self._tell = tell
        self._trace: deque[tuple[object, ...]] = deque(maxlen=TRACED)
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something then."""
        heapq.heappush(self._agenda, (when, next(self._order), action, arguments))

    def play(self) -> None:
        """Do one thing after another, until nothing is left to do before `ends_at`."""
        agenda, pop = self._agenda, heapq.heappop
        for _ in range(MOST_EVENTS):
            if not agenda or agenda[0][0] > self.ends_at:
                break
            self.now, _, action, arguments = pop(agenda)
            action(*arguments)

    def close(self) -> None:
        """Let go of what the jobs hold."""
        for task in self.tasks:
            task.close()

    def soon(self, longest_s: float) -> float:
        """Return a moment within so many seconds."""
        return self.now + self.dice.random() * longest_s

    def strikes(self, chance: float) -> bool:
        """Whether something breaks now."""
        return self.now < self.plan.heals_s and self.dice.random() < chance

    def say(self, who: str, *what: object) -> None:
        """Add a line to the trace."""
        line = (self.now, who, *what)
        self._trace.append(line)
        if self._tell is not None:
            self._tell(_text_of(line))

    def trace(self) -> list[str]:
        """Return the last lines."""
        return [_text_of(line) for line in self._trace]


class Host:
    """A machine with one process: what it does ends when it dies, what it wrote stays."""

    def __init__(self, world: World, name: str, *, crash_chance: float, write_s: float) -> None:
        """`crash_chance`: for each write, before and after it; `write_s`: how long one takes at most."""
        self.world = world
        self.name = name
        self.life = 0  # which process; a job of an earlier one is dead
        self._crash_chance = crash_chance
        self._write_s = write_s

    def spawn(self, job: Job[None]) -> Task:
        """Begin a job, in the process that lives now."""
        task = Task(self, job)
        self.world.tasks.append(task)
        self.world.at(self.world.now, task.resume, 0)
        return task

    def write(self, what: str, apply: Callable[[], object], *, longest_s: float | None = None) -> Job[None]:
        """Change what is stored, which takes time; the process may die right before and right after."""
        yield from self.write_by(self.world.soon(self._write_s if longest_s is None else longest_s), what, apply)

    def write_by(self, moment: float, what: str, apply: Callable[[], object]) -> Job[None]:
        """Change what is stored, at the moment given."""
        self.may_die("before", what)
        yield moment
        apply()
        self.world.say(self.name, what)
        self.may_die("after", what)

    def may_die(self, *when: str, chance: float | None = None) -> None:
        """Die here by chance; raises `Crashed` then, for the job that is at work."""
        if self.world.strikes(self._crash_chance if chance is None else chance):
            self.world.say(self.name, "dies", *when)
            self.crash()
            raise Crashed

    def crash(self) -> None:
        """Lose what is in memory, and every connection."""
        raise NotImplementedError


class Task:
    """A job under way."""

    def __init__(self, host: Host, job: Job[None]) -> None:
        self._host, self._job, self._life, self._turn = host, job, host.life, 0

    def resume(self, turn: int) -> None:
        """Go on, unless it has gone on meanwhile or is no more."""
        if turn != self._turn or self._life != self._host.life:
            return
        self._turn = turn = turn + 1
        try:
            until = next(self._job)
        except (StopIteration, Crashed):
            return
        if until < math.inf:
            self._host.world.at(until, self.resume, turn)

    def wake(self) -> None:
        """Go on before the moment it waits for."""
        self._host.world.at(self._host.world.now, self.resume, self._turn)

    def cancel(self) -> None:
        """End it."""
        self._turn = -1

    def close(self) -> None:
        """Let go of what it holds."""
        self._job.close()


class Mailbox(deque[object]):
    """Events for one job that waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: Task | None = None

    def post(self, event: object) -> None:
        """Add one."""
        self.append(event)
        if self._waiting is not None:
            self._waiting.wake()
            self._waiting = None

    def wait(self, owner: Task, until: float) -> Job[None]:
        """Return when there is an event (there is none yet), or at the moment given."""
        self._waiting = owner
        yield until
        self._waiting = None


def _text_of(line: tuple[object, ...]) -> str:
    moment, who, *what = line
    return f"{moment:9.3f} {who:12} {' '.join(_named(each) for each in what)}"


def _named(what: object) -> str:
    if not is_dataclass(what):
        return str(what)
    shown = ((name, value) for name, value in vars(what).items() if name in _SHOWN)
    plain = (f"{name}={sorted(value) if isinstance(value, frozenset) else value}" for name, value in shown)
    return f"{type(what).__name__}({', '.join(plain)})"
