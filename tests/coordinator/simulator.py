"""Plays federated runs under a virtual clock, one seed each: `python -m tests.coordinator.simulator --seeds 10000`.

In the manner of FoundationDB (Zhou et al., "FoundationDB: A Distributed Unbundled Transactional Key Value Store",
SIGMOD 2021, section 4) and TigerBeetle. The pure cores (`Rounds`, `WorkerSession`, `OwnChain`, the audit's records)
are the real ones; around them stands a model of the shells that does what `coordinator/service.py`, `desk.py`,
`sessions.py` and `worker/service.py` do, in their order. One `random.Random(seed)` decides when messages arrive, which
connections break, and who dies at which write; so a seed that fails fails again, by `replay`.

A file survives a power loss as far as it was synced, and its name once its folder was; a commit of the database is
atomic and durable (SQLite's part, not ours). After `heals_s` nothing breaks any more, so that a run that does not end
is found too.
"""

from __future__ import annotations

import enum
import hashlib
import heapq
import itertools
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import click

from fednet.audit import merkle
from fednet.audit.own_chain import OwnChain, Shown
from fednet.audit.record import NOTHING_BEFORE, SignedRecord, canonical, make_header
from fednet.config import RunSettings, WorkerConsent, WorkerName
from fednet.coordinator.round import (
    Aggregate,
    Command,
    CommitRound,
    EvaluateModel,
    Event,
    FinishRun,
    ModelDelivered,
    ModelEvaluated,
    ParkRun,
    Phase,
    RoundCommitted,
    RoundRecovered,
    Rounds,
    SendModel,
    StartRound,
    StopRequested,
    TimePassed,
    UpdatesAggregated,
    UpdateStored,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
)
from fednet.errors import AuditError, RemoteProtocolError
from fednet.protocol import limits
from fednet.protocol.messages import (
    Goodbye,
    Message,
    ModelWanted,
    Ready,
    Records,
    RecordsWanted,
    RoundClosed,
    RoundStarted,
    UpdateAccepted,
    UpdateOffered,
    UpdateRefused,
    UpdateWanted,
    Welcome,
)
from fednet.worker import session as at_worker
from fednet.worker.session import WorkerSession

Result = TypeVar("Result")
Job = Generator[float, None, Result]
"""What a host does over time: yields the moment until which it sleeps (infinity: until it is woken)."""

RUN = "0123456789abcdef"
NBYTES = 2  # of a model and of an update, one a chunk: transfers break in the middle
FIRST_MODEL = hashlib.sha256(b"the model that the run starts from").hexdigest()
TRACED = 40  # lines of a failing seed that are shown
MOST_EVENTS = 40_000  # of one seed; a usual one has some hundred
GENEROUS_S = 4000.0  # no outage takes so long
AFTERWARDS_S = 60.0  # once the run has ended: the workers read what was sent to them


class Claim(enum.Enum):
    """What holds in every run, whatever breaks."""

    COUNTED_ONCE = "an update counts at most once in a round"
    OWN_ROUND = "no update of one round enters another"
    NOTHING_LOST = "an acknowledged update is stored, and in its round's record"
    HISTORY_STANDS = "a committed round never changes"
    IN_ORDER = "updates are aggregated in the order of their workers' names"
    SAME_MODEL = "where everybody can deliver, the model is the undisturbed run's"
    ASKED_DELIVERS = "a worker that is asked and stays connected delivers"
    RUN_ENDS = "every run ends, or parks with a reason and can be resumed"
    CHAIN_HOLDS = "no worker finds fault with an honest coordinator's record"
    NO_BREACH = "neither side takes the other for one that breaks the protocol"


class Violation(AssertionError):
    """A claim did not hold."""

    def __init__(self, claim: Claim, found: str) -> None:
        self.claim = claim
        super().__init__(f"{claim.value}; found: {found}")


class Crashed(Exception):
    """The host of this job died under it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one seed plays: the run, and how much of what breaks."""

    everybody_can_deliver: bool  # deadline, patience and grace outlast every outage
    settings: RunSettings
    grace_s: float
    heals_s: float
    cut_chance: float  # for each message on its way
    crash_chance: float  # for each write, before and after it
    slowest_message_s: float
    slowest_write_s: float
    longest_training_s: float
    longest_outage_s: float
    headers_at_a_time: int
    sudden_faults: int

    @property
    def workers(self) -> tuple[WorkerName, ...]:
        """Everybody who takes part, by name."""
        return tuple(WorkerName(f"client{number}") for number in range(1, self.settings.workers + 1))

    def answers_within_s(self, *, behind: int) -> float:
        """Return how long it takes at most from offering a model to having the update, where nothing breaks.

        `behind`: records of which the worker has yet to ask for the headers.
        """
        messages_s, writes_s = (12 + 2 * behind) * self.slowest_message_s, (6 + behind) * self.slowest_write_s
        return messages_s + writes_s + self.longest_training_s + 0.5

    @property
    def ends_within_s(self) -> float:
        """When the run has ended at the latest: half the deadline where nobody need wait for one."""
        return self.heals_s + (self.settings.deadline_s / 2 if self.everybody_can_deliver else 10_000.0)


def plan_of(dice: random.Random) -> Plan:
    """Draw one."""
    is_generous = dice.random() < 0.4
    message_s, write_s, training_s = (
        dice.choice((0.1, 0.4, 1.5)),
        dice.choice((0.01, 0.1, 1.5)),
        dice.choice((0.5, 3.0)),
    )
    typical_s = 3 * message_s + 4 * write_s + training_s  # of a round
    return Plan(
        everybody_can_deliver=is_generous,
        settings=_settings_of(dice, is_generous=is_generous, typical_s=typical_s),
        grace_s=GENEROUS_S if is_generous else typical_s * dice.uniform(0.05, dice.choice((3.0, 20.0))),
        heals_s=dice.uniform(5.0, 60.0),
        cut_chance=dice.choice((0.0, 0.01, 0.03, 0.06)),
        crash_chance=dice.choice((0.0, 0.01, 0.03, 0.06)),
        slowest_message_s=message_s,
        slowest_write_s=write_s,
        longest_training_s=training_s,
        longest_outage_s=dice.choice((2.0, 10.0, 40.0)),
        headers_at_a_time=dice.randint(1, limits.MAX_RECORDS),
        sudden_faults=dice.randint(0, 4),
    )


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


# What is computed


@dataclass(frozen=True)
class Update:
    """A worker's training on a round's model; another disk stands for training that does not repeat bit by bit."""

    worker: WorkerName
    round: int
    base: str
    disk: int = 0

    @property
    def content(self) -> str:
        """Return it as it travels and is stored."""
        return f"{self.worker} {self.round} {self.base} {self.disk}"


def update_in(content: str) -> Update:
    """Return what `Update.content` says."""
    worker, number, base, disk = content.split()
    return Update(WorkerName(worker), int(number), base, int(disk))


def digest_of(content: str) -> str:
    """Return the SHA-256, hex."""
    return hashlib.sha256(content.encode()).hexdigest()


def is_selected(digest: str) -> bool:
    """Whether the aggregation takes an update: most."""
    return not digest.startswith("0")


def combined(base: str, updates: Sequence[tuple[WorkerName, str]]) -> str:
    """Return the model that follows from (worker, digest of its update), in this order."""
    return digest_of(" ".join([base, *(f"{worker}={digest}" for worker, digest in updates if is_selected(digest))]))


def undisturbed(plan: Plan) -> str:
    """Return the last model of the run in which nothing breaks."""
    model = FIRST_MODEL
    for number in range(1, plan.settings.rounds + 1):
        model = combined(model, [(each, digest_of(Update(each, number, model).content)) for each in plan.workers])
    return model


# Time, and what happens in it


class Host:
    """A machine with one process: what it does ends when it dies, what it wrote stays."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.life = 0  # which process; a job of an earlier one is dead

    def spawn(self, job: Job[None]) -> Task:
        """Begin a job, in the process that lives now."""
        task = Task(self, job)
        self.world.tasks.append(task)
        self.world.at(self.world.now, partial(task.resume, 0))
        return task

    def write(self, what: str, apply: Callable[[], object]) -> Job[None]:
        """Change what is stored, which takes time; the process may die right before and right after."""
        self._may_die(f"before {what}")
        yield self.world.now + self.world.dice.random() * self.world.plan.slowest_write_s
        apply()
        self.world.say(self.name, what)
        self._may_die(f"after {what}")

    def crash(self) -> None:
        """Lose what is in memory, and every connection."""
        raise NotImplementedError

    def _may_die(self, when: str) -> None:
        if self.world.strikes(self.world.plan.crash_chance):
            self.world.say(self.name, "dies", when)
            self.crash()
            raise Crashed


class Task:
    """A job under way."""

    def __init__(self, host: Host, job: Job[None]) -> None:
        self._host, self._job, self._life, self._turn = host, job, host.life, 0

    def resume(self, turn: int) -> None:
        """Go on, unless it has gone on meanwhile or is no more."""
        if turn != self._turn or self._life != self._host.life:
            return
        self._turn += 1
        try:
            until = next(self._job)
        except (StopIteration, Crashed):
            return
        if until < math.inf:
            self._host.world.at(until, partial(self.resume, self._turn))

    def wake(self) -> None:
        """Go on before the moment it waits for."""
        self._host.world.at(self._host.world.now, partial(self.resume, self._turn))

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
        """Return when there is an event, or at the moment given."""
        if not self:
            self._waiting = owner
            yield until
            self._waiting = None


class World:
    """The clock, the dice and everybody in one seed's run."""

    def __init__(self, seed: int, *, tell: Callable[[str], None] | None = None) -> None:
        self.dice = random.Random(seed)
        self.now = 0.0
        self.plan = plan_of(self.dice)
        self.counts: Counter[str] = Counter()
        self.tasks: list[Task] = []
        self._tell = tell
        self._trace: deque[tuple[object, ...]] = deque(maxlen=TRACED)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.witness = Witness(self)
        self.coordinator = Coordinator(self)
        self.workers = {name: Worker(self, name) for name in self.plan.workers}

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something then."""
        heapq.heappush(self._agenda, (when, next(self._order), action))

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

    def play(self) -> None:
        """Play until the run has ended and the workers have heard of it; raises `Violation`."""
        try:
            self._play()
            self.witness.ended()
        finally:
            for task in self.tasks:
                task.close()

    def _play(self) -> None:
        self.coordinator.start()
        for worker in self.workers.values():
            self.at(self.soon(2.0), worker.start)
        for _ in range(self.plan.sudden_faults):
            self.at(self.dice.uniform(0.0, self.plan.heals_s), self._strike)
        ended: float | None = None
        latest_s = self.plan.ends_within_s
        for _ in range(MOST_EVENTS):
            if not self._agenda or (ended is not None and self._agenda[0][0] > ended + AFTERWARDS_S):
                break
            self.now, _, action = heapq.heappop(self._agenda)
            if ended is None and self.now > latest_s:
                break
            action()
            if ended is None and self.coordinator.has_finished:
                ended = self.now

    def _strike(self) -> None:
        """Break something without regard to what is being done."""
        worker = self.dice.choice(list(self.workers.values()))
        harmless = [self.coordinator.crash, self.coordinator.stop, worker.crash, worker.lose_link]
        fault = self.dice.choice(
            harmless if self.plan.everybody_can_deliver else [*harmless, worker.leave, worker.lose_disk]
        )
        fault()


def _text_of(line: tuple[object, ...]) -> str:
    moment, who, *what = line
    words = " ".join(_named(each) if isinstance(each, Message) else str(each) for each in what)
    return f"{moment:9.3f} {who:12} {words}"


def _named(message: Message) -> str:
    numbers = [
        f"{name}={getattr(message, name)}"
        for name in ("round", "transfer", "offset", "after")
        if hasattr(message, name)
    ]
    return f"{type(message).__name__}({', '.join(numbers)})"


# The network


@dataclass(frozen=True)
class Chunk:
    """Bytes of a transfer."""

    transfer: int
    offset: int
    content: str = field(repr=False)


LOST = object()
"""What an end hears last."""


class Way:
    """One direction of a connection: what is said arrives in order, or not at all from some moment on."""

    def __init__(self, world: World, connection: Connection, hear: Callable[[object], None], who: str) -> None:
        self._world, self._connection, self._hear, self._who = world, connection, hear, who
        self._last = 0.0
        self._open_until = math.inf

    def send(self, said: object) -> None:
        """Say something; on a connection that is gone it goes nowhere."""
        if self._world.now <= self._open_until:
            self._world.at(self._next_moment(), partial(self._arrive, said))

    def end(self, until: float, *, notices_s: float) -> None:
        """Carry nothing more after a moment; the end at the far side hears of it some time later."""
        if self._open_until == math.inf:
            self._open_until = until
            self._world.at(max(self._world.soon(notices_s), until), partial(self._hear, LOST))

    @property
    def last(self) -> float:
        """When everything has arrived that was said."""
        return max(self._last, self._world.now)

    def close(self) -> None:
        """Let nothing more arrive."""
        self._open_until = -math.inf

    def _next_moment(self) -> float:
        self._last = max(
            self._last, self._world.now + self._world.plan.slowest_message_s * self._world.dice.random() ** 3
        )
        return self._last

    def _arrive(self, said: object) -> None:
        if self._world.now > self._open_until:
            return
        if self._world.strikes(self._world.plan.cut_chance):
            self._connection.cut()
            self._open_until = -math.inf  # and nothing arrives of what was said after it
            return
        self._world.say(self._who, "hears", said)
        self._hear(said)


class Connection:
    """A worker's connection: two ways that break together."""

    def __init__(self, world: World, worker: Worker, session: Session) -> None:
        self._world = world
        self.is_cut = False
        self.to_worker = Way(world, self, partial(worker.hear, self, worker.life), worker.name)
        self.to_coordinator = Way(world, self, session.hear, "coordinator")

    def cut(self) -> None:
        """Break: what is on its way is lost, now or in a moment; each end notices in its own time."""
        if self.is_cut:
            return
        self.is_cut = True
        self._world.counts["cuts"] += 1
        self._world.say("network", "cuts a connection")
        late_s = self._world.dice.choice((1.0, limits.DEAD_AFTER_S))
        for way, notices_s in ((self.to_worker, 2.0), (self.to_coordinator, late_s)):
            way.end(self._world.soon(0.2), notices_s=notices_s)

    def close_by_coordinator(self) -> None:
        """End it after what was said."""
        self.is_cut = True
        self.to_coordinator.close()
        self.to_worker.end(self.to_worker.last, notices_s=0.0)

    def close_by_worker(self) -> None:
        """End it after what was said."""
        self.is_cut = True
        self.to_worker.close()
        self.to_coordinator.end(self.to_coordinator.last, notices_s=1.0)


# The coordinator


@dataclass
class File:
    """What a file holds: as programs see it, and as it would be after a power loss."""

    content: str = ""
    durable: str = ""


class Disk:
    """Files by path, as programs see them and as they would be after a power loss."""

    def __init__(self) -> None:
        self.names: dict[str, File] = {}
        self._durable: dict[str, File] = {}

    def create(self, path: str) -> File:
        """Return an empty file of this name; neither its content nor its name is durable."""
        self.names[path] = File()
        return self.names[path]

    def sync(self, file: File) -> None:
        """Make a file's content durable."""
        file.durable = file.content

    def sync_folder(self, folder: str) -> None:
        """Make the names in a folder durable."""
        for path in sorted(self.names.keys() | self._durable.keys()):
            if path.startswith(folder):
                self._settle(path)

    def unlink(self, path: str) -> None:
        """Remove a name, if it is there; it may come back after a power loss."""
        self.names.pop(path, None)

    def rename(self, path: str, target: str) -> None:
        """Give a file another name."""
        self.names[target] = self.names.pop(path)

    def lose_power(self, dice: random.Random) -> None:
        """Keep of what is not durable what chance has written already, each file and each name for itself."""
        for path in sorted(self.names.keys() | self._durable.keys()):
            if self.names.get(path) is not self._durable.get(path) and dice.random() < 0.5:
                self._settle(path)
        self.names = dict(self._durable)
        for _, file in sorted(self.names.items()):
            if file.content != file.durable:
                file.durable = dice.choice((file.content, file.durable, file.content[: len(file.content) // 2]))
            file.content = file.durable

    def _settle(self, path: str) -> None:
        if path in self.names:
            self._durable[path] = self.names[path]
        else:
            self._durable.pop(path, None)


@dataclass(frozen=True)
class Verdict:
    """What a round's document says of one update."""

    worker: WorkerName
    sha256: str

    @property
    def entry(self) -> bytes:
        """Return what the round's record says of it."""
        return canonical({"worker": self.worker, "update_sha256": self.sha256, "selected": is_selected(self.sha256)})


@dataclass(frozen=True)
class Committed:
    """A round's row."""

    round: int
    model: str
    verdicts: tuple[Verdict, ...]

    def verdict_on(self, worker: WorkerName) -> tuple[int, Verdict] | None:
        """Return this worker's verdict and its place, or None."""
        found = ((place, each) for place, each in enumerate(self.verdicts) if each.worker == worker)
        return next(found, None)


def record_of(committed: Committed, base: str, previous: str) -> SignedRecord:
    """Return the record of a round, whose signature nobody checks."""
    entries = tuple(verdict.entry for verdict in committed.verdicts)
    header = make_header(
        run=RUN,
        round_number=committed.round,
        previous=previous,
        entries=entries,
        model_before=base,
        model_after=committed.model,
        document=b"",
        settings={},
        facts={},
    )
    return SignedRecord(header=header, entries=entries, signature=b"signed", certificate=b"coordinator")


@dataclass
class Database:
    """The run's tables: each change is one transaction."""

    begun: dict[int, frozenset[WorkerName]] = field(default_factory=dict)
    updates: dict[tuple[int, WorkerName], str] = field(default_factory=dict)
    rounds: list[Committed] = field(default_factory=list)
    records: list[SignedRecord] = field(
        default_factory=lambda: [record_of(Committed(0, FIRST_MODEL, ()), FIRST_MODEL, NOTHING_BEFORE)]
    )

    def commit(self, committed: Committed, record: SignedRecord) -> None:
        """Add a round with its record."""
        self.rounds.append(committed)
        self.records.append(record)


@dataclass(eq=False)
class Incoming:
    """An update on its way, over however many connections."""

    offered: UpdateOffered
    path: str
    file: File
    is_closed: bool = False
    is_being_kept: bool = False
    is_settled: bool = False


@dataclass(frozen=True)
class Delivered:
    """A durable update."""

    path: str
    sha256: str


def spool_path(number: int, worker: WorkerName) -> str:
    """Return where an update lies."""
    return f"spool/{number}/{worker}"


def checkpoint_path(number: int) -> str:
    """Return where a round's model lies."""
    return f"checkpoints/{number}"


class Coordinator(Host):
    """The model of `Coordinator` and `Desk`, with the disk beneath; what `start` sets is a process's memory."""

    def __init__(self, world: World) -> None:
        super().__init__(world, "coordinator")
        self.disk = Disk()
        self.database = Database()
        self._settings = world.plan.settings
        self.has_finished = False
        self.is_listening = self._is_up = False

    def start(self) -> None:
        """Begin a process."""
        self.world.say(self.name, "starts")
        self.life += 1
        self._is_up = True
        self.events = Mailbox()
        self.sessions: dict[WorkerName, Session] = {}
        self.links: list[Connection] = []
        self.incoming: dict[WorkerName, Incoming] = {}
        self.delivered: dict[WorkerName, Delivered] = {}
        self.offer: int | None = None  # the round whose model is on offer
        self._recovered: dict[WorkerName, Delivered] = {}
        self._combined: tuple[str, tuple[Verdict, ...]] | None = None
        self._driver = self.spawn(self._run())

    def stop(self) -> None:
        """Ask for a clean stop."""
        if self.is_listening:
            self.world.counts["stops"] += 1
            self.events.post(StopRequested("stopped by SIGTERM"))

    def crash(self) -> None:
        """Die: killed, or without power."""
        if not self._is_up:
            return
        has_power = self.world.dice.random() < 0.5
        self.world.counts["kills" if has_power else "power losses"] += 1
        self.world.say(self.name, "is killed" if has_power else "loses power")
        if not has_power:
            self.disk.lose_power(self.world.dice)
        self._end_process()
        self.world.at(self.world.soon(5.0), self.start)

    def accept(self, session: Session, link: Connection) -> None:
        """Take a connection."""
        self.links.append(link)
        session.link = link
        self.spawn(self._serve_worker(session))

    def _end_process(self) -> None:
        self.life += 1
        self.is_listening = self._is_up = False
        for link in self.links:
            link.cut()

    def _serve_worker(self, session: Session) -> Job[None]:
        while (older := self.sessions.get(session.worker)) is not None:
            yield self.world.soon(limits.ALIVE_WITHIN_S)  # it is asked for a sign of life
            older.hear(LOST)
            while not older.is_over:
                yield self.world.now + 0.05
            self.forget(older)
        if session.link.is_cut:
            return
        assert self.rounds.admits(session.worker, now=self.world.now), "there are no more workers than places"
        self.sessions[session.worker] = session
        session.greet()

    def forget(self, session: Session) -> None:
        """Serve this connection no more."""
        if self.sessions.get(session.worker) is session:
            del self.sessions[session.worker]

    # Rounds

    def _run(self) -> Job[None]:
        rounds = self.database.rounds
        self.rounds = Rounds(
            self._settings,
            first_round=len(rounds) + 1,
            known_workers=tuple(each.worker for each in rounds[-1].verdicts) if rounds else (),
            grace_s=self.world.plan.grace_s,
            now=self.world.now,
        )
        self.world.witness.restarted()
        self.model = rounds[-1].model if rounds else FIRST_MODEL
        if self.rounds.round_number > self._settings.rounds:
            self._finish()
            return
        self._sweep()
        yield from self._recover()
        self.is_listening = True
        yield from self._drive()

    def _sweep(self) -> None:
        kept = {
            spool_path(number, worker) for number, worker in self.database.updates if number > len(self.database.rounds)
        }
        kept |= {checkpoint_path(each.round) for each in self.database.rounds}
        for path in self.disk.names.keys() - kept:
            self.disk.unlink(path)

    def _recover(self) -> Job[None]:
        number = len(self.database.rounds) + 1
        cohort = self.database.begun.get(number)
        if cohort is None:
            return
        for worker in self.world.plan.workers:
            if (number, worker) in self.database.updates:
                yield from self._recover_update(number, worker)
        self.world.witness.recovered(number, self._recovered)
        self.world.counts["recovered updates"] += len(self._recovered)
        self.events.post(RoundRecovered(cohort, frozenset(self._recovered)))

    def _recover_update(self, number: int, worker: WorkerName) -> Job[None]:
        path, sha256 = spool_path(number, worker), self.database.updates[number, worker]
        file = self.disk.names.get(path)
        if file is not None and digest_of(file.content) == sha256:
            self._recovered[worker] = Delivered(path, sha256)
            return
        yield from self.write(f"drops the row of {worker}", lambda: self.database.updates.pop((number, worker)))

    def _drive(self) -> Job[None]:
        while not self.rounds.is_over:
            event = yield from self._next_event()
            self.world.say(self.name, "takes", event)
            commands = self.rounds.handle(event, now=self.world.now)
            match event:
                case WorkerJoined(worker):
                    self.catch_up(worker)
                case UpdateStored(worker, number) if worker in self.sessions:
                    self.sessions[worker].update_stored(number)
            for command in commands:
                self.world.say(self.name, "does", command)
                yield from self._carry_out(command)

    def _next_event(self) -> Job[Event]:
        now = self.world.now
        wake_at = self.rounds.wake_at(now=now)
        if self.world.strikes(0.02):
            wake_at = now  # a timer may be early
        yield from self.events.wait(self._driver, math.inf if wake_at is None else wake_at)
        return self.events.popleft() if self.events else TimePassed()  # type: ignore[return-value]

    def _carry_out(self, command: Command) -> Job[None]:
        match command:
            case StartRound(number):
                yield from self._start_round(number)
            case SendModel(worker, _):
                if worker in self.sessions:
                    self.sessions[worker].send_model()
            case Aggregate(number, workers):
                yield from self._aggregate(number, workers)
            case EvaluateModel():
                yield self.world.soon(1.0)
                self.events.post(ModelEvaluated())
            case CommitRound(number):
                yield from self._commit(number)
            case ParkRun(reason):
                self._park(reason)
            case FinishRun():
                self._finish()

    def _start_round(self, number: int) -> Job[None]:
        yield self.world.soon(0.5)
        cohort = self.rounds.cohort
        yield from self.write(f"begins round {number}", lambda: self.database.begun.setdefault(number, cohort))
        delivered, self._recovered = self._recovered, {}
        self.leave_round()
        self.offer = number
        self.delivered.update(delivered)

    def leave_round(self) -> None:
        """Take no more updates."""
        for worker in list(self.incoming):
            self.drop_incoming(worker)
        self.delivered.clear()
        self.offer = None

    def _aggregate(self, number: int, workers: Sequence[WorkerName]) -> Job[None]:
        for session in list(self.sessions.values()):
            session.close_round(number)
        yield self.world.soon(1.0)
        taken = [(worker, self.delivered[worker]) for worker in workers]
        contents = [(worker, self.disk.names[each.path].content) for worker, each in taken]
        self.world.witness.aggregated(number, self.model, contents)
        verdicts = tuple(Verdict(worker, each.sha256) for worker, each in taken)
        self._combined = combined(self.model, [(worker, each.sha256) for worker, each in taken]), verdicts
        self.world.counts["rounds without everybody"] += len(workers) < len(self.world.plan.workers)
        self.events.post(UpdatesAggregated())

    def _commit(self, number: int) -> Job[None]:
        assert self._combined is not None
        committed = Committed(number, *self._combined)
        yield from self._save_checkpoint(checkpoint_path(number), committed.model)
        record = record_of(committed, self.model, self.database.records[-1].digest)
        yield from self.write(f"commits round {number}", partial(self._commit_row, committed, record))
        yield self.world.soon(0.5)  # history.json and best.pth
        self.model = committed.model
        for worker, session in self.sessions.items():
            session.send(self._closing(worker, committed))
        self.leave_round()
        for path in [path for path in self.disk.names if path.startswith(f"spool/{number}/")]:
            self.disk.unlink(path)
        self.events.post(RoundCommitted())

    def _save_checkpoint(self, path: str, model: str) -> Job[None]:
        temporary = f"{path}.tmp"
        file = self.disk.create(temporary)
        file.content = model
        yield from self.write("syncs a checkpoint", lambda: self.disk.sync(file))
        yield from self.write("renames it", lambda: self.disk.rename(temporary, path))
        yield from self.write("syncs its folder", lambda: self.disk.sync_folder("checkpoints/"))

    def _commit_row(self, committed: Committed, record: SignedRecord) -> None:
        self.world.witness.committed(committed)
        self.database.commit(committed, record)

    def _closing(self, worker: WorkerName, committed: Committed) -> RoundClosed:
        record, found = self.database.records[-1], committed.verdict_on(worker)
        place, verdict = found or (0, None)
        shown = Shown(
            header=record.header,
            signature=record.signature,
            certificate=record.certificate,
            entry=verdict.entry if verdict else b"",
            position=place,
            path=merkle.Tree(record.entries).path(place) if verdict else b"",
        )
        word = "absent" if verdict is None else "selected" if is_selected(verdict.sha256) else "rejected"
        return RoundClosed(round=committed.round, verdict=word, reason="", weight=0.0, metrics={}, **vars(shown))

    def catch_up(self, worker: WorkerName) -> None:
        """Tell a worker that joins how the last round ended, and that its update is stored where it is."""
        session, rounds = self.sessions.get(worker), self.database.rounds
        if session is None:
            return
        if rounds and session.known_record < rounds[-1].round:
            session.send(self._closing(worker, rounds[-1]))
        if worker in self.rounds.delivered:
            session.update_stored(self.rounds.round_number)

    def _park(self, reason: str) -> None:
        self.world.witness.parked(reason)
        self._dismiss("parked", reason)
        self._settings = replace(self._settings, patience_s=2 * self._settings.patience_s)  # the operator's answer
        self.world.at(self.world.soon(20.0), self.start)

    def _finish(self) -> None:
        self.has_finished = True
        self._dismiss("finished", "all rounds are done")

    def _dismiss(self, code: str, reason: str) -> None:
        for session in self.sessions.values():
            session.send(Goodbye(code=code, reason=reason))
            session.link.close_by_coordinator()
        self._end_process()

    # Updates

    def place_for(self, worker: WorkerName, offered: UpdateOffered) -> Incoming:
        """Return where an offered update goes; the same one goes on where it stopped."""
        known = self.incoming.get(worker)
        if known is not None and known.offered.sha256 == offered.sha256:
            return known
        self.drop_incoming(worker)
        path = spool_path(offered.round, worker)
        self.disk.unlink(path)
        self.incoming[worker] = Incoming(offered, path, self.disk.create(path))
        return self.incoming[worker]

    def drop_incoming(self, worker: WorkerName) -> None:
        """Take no more of an update."""
        if worker in self.incoming:
            self.incoming.pop(worker).is_closed = True

    def keep(self, worker: WorkerName, incoming: Incoming) -> None:
        """Make a whole update durable, whatever becomes of the connection."""
        if not incoming.is_being_kept:
            incoming.is_being_kept = True
            self.spawn(self.make_durable(worker, incoming))

    def make_durable(self, worker: WorkerName, incoming: Incoming) -> Job[None]:
        """Sync an update's file, then its name, then add its row; only then it counts."""
        yield from self.sync_content(incoming)
        yield from self.sync_name(incoming)
        if self._is_wanted(worker, incoming) and not incoming.is_closed:
            yield from self.add_row(worker, incoming)
        incoming.is_settled = True
        if self._is_wanted(worker, incoming):
            self.take(worker, incoming)

    def sync_content(self, incoming: Incoming) -> Job[None]:
        """Make what an update's file holds durable."""
        yield from self.write(f"syncs {incoming.path}", lambda: self.disk.sync(incoming.file))

    def sync_name(self, incoming: Incoming) -> Job[None]:
        """Make the name of an update's file durable."""
        folder = incoming.path.rpartition("/")[0] + "/"
        yield from self.write(f"syncs {folder}", lambda: self.disk.sync_folder(folder))

    def add_row(self, worker: WorkerName, incoming: Incoming) -> Job[None]:
        """Remember an update that is durable; a second one of this worker and round changes nothing."""
        key, sha256 = (incoming.offered.round, worker), incoming.offered.sha256
        yield from self.write(f"adds the row of {worker}", lambda: self.database.updates.setdefault(key, sha256))

    def take(self, worker: WorkerName, incoming: Incoming) -> None:
        """Count a durable update."""
        self.drop_incoming(worker)
        self.delivered[worker] = Delivered(incoming.path, incoming.offered.sha256)
        self.events.post(UpdateStored(worker, incoming.offered.round))

    def _is_wanted(self, worker: WorkerName, incoming: Incoming) -> bool:
        return self.incoming.get(worker) is incoming


_LEAVING = ("left", "declined", "failed")


class Session:
    """The model of `coordinator.sessions.Session`."""

    link: Connection

    def __init__(self, coordinator: Coordinator, worker: WorkerName) -> None:
        self.desk = coordinator
        self._world = coordinator.world
        self._life = coordinator.life
        self.worker = worker
        self.known_record = 0
        self.is_over = False
        self._is_joined = False
        self._waiting: list[object] | None = None  # what comes while `Ready` is being written down
        self._upload: Incoming | None = None
        self._upload_transfer = -1
        self._expected: dict[int, Incoming | None] = {}  # by transfer; None: read into nothing
        self._outgoing: dict[int, Task] = {}

    def hear(self, said: object) -> None:
        """Take what the worker says."""
        if self.is_over or self._life != self.desk.life:
            return
        if self._waiting is not None:
            self._waiting.append(said)
        elif said is LOST:
            self._end(leaves=False)
        elif isinstance(said, Ready):
            self._waiting = []
            self.desk.spawn(self._join(said))
        else:
            self._answer(said)

    def send(self, message: Message) -> None:
        """Say something to the worker."""
        self.link.to_worker.send(message)

    def greet(self) -> None:
        """Answer the worker's Hello."""
        self.send(Welcome(run=RUN, worker=self.worker, settings={}, manifest="", heartbeat_s=10.0))

    def send_model(self) -> None:
        """Offer the round's model."""
        desk, number = self.desk, self.desk.offer
        if number is None:
            return
        self.send(
            RoundStarted(
                round=number,
                rounds=self._world.plan.settings.rounds,
                transfer=number,
                nbytes=NBYTES,
                sha256=desk.model,
                training=TRAINING,
                seed=0,
                remaining_s=desk.rounds.remaining_s(now=self._world.now),
            )
        )
        if self._is_joined:
            self._await_update(number)

    def _await_update(self, number: int) -> None:
        behind = len(self.desk.database.rounds) - self.known_record
        within_s = self._world.plan.answers_within_s(behind=behind)
        life = self._world.workers[self.worker].life
        self._world.at(self._world.now + within_s, partial(self._world.witness.asked, self, number, life))

    def update_stored(self, number: int) -> None:
        """Acknowledge a durable update, if the round has taken it."""
        if self.worker in self.desk.rounds.delivered:
            self.send(UpdateAccepted(round=number))
        else:
            self._refuse(number)

    def close_round(self, number: int) -> None:
        """Stop both transfers of a round that takes no more updates."""
        sending = self._outgoing.pop(number, None)
        if sending is not None:
            sending.cancel()
            self._refuse(number)
        if self._is_uploading() and self.worker not in self.desk.delivered:
            self._upload = None
            if self._upload_transfer in self._expected:
                self._expected[self._upload_transfer] = None
            self._refuse(number)

    def is_alive(self) -> bool:
        """Whether this connection still serves its worker."""
        return not self.is_over and self._life == self.desk.life and not self.link.is_cut

    def _join(self, ready: Ready) -> Job[None]:
        self.known_record = ready.known_record
        yield from self.desk.write(f"has seen {self.worker}", lambda: None)
        self._is_joined = True
        self.desk.events.post(WorkerJoined(self.worker))
        waiting, self._waiting = self._waiting or [], None
        for said in waiting:
            self.hear(said)

    def _end(self, *, leaves: bool) -> None:
        self.is_over, self._upload = True, None
        for sending in self._outgoing.values():
            sending.cancel()
        self.link.close_by_coordinator()
        if self._is_joined:
            self.desk.events.post(WorkerLeft(self.worker) if leaves else WorkerLost(self.worker))
        self.desk.forget(self)

    def _answer(self, said: object) -> None:
        match said:
            case ModelWanted():
                self._start_sending(said)
            case UpdateOffered():
                self.consider(said)
            case RecordsWanted(after=after):
                found = [record.header for record in self.desk.database.records if record.round > after]
                self._world.counts["catch-ups"] += 1
                self.send(Records(headers=found[: self._world.plan.headers_at_a_time]))
            case Chunk():
                self._take_chunk(said)
            case Goodbye(code=code):
                self._end(leaves=code in _LEAVING)

    def _start_sending(self, wanted: ModelWanted) -> None:
        if self.desk.offer is None or wanted.round != self.desk.offer:
            self._refuse(wanted.round)
            return
        if wanted.transfer in self._outgoing:
            raise Violation(Claim.NO_BREACH, f"{self.worker}: transfer {wanted.transfer} is under way already")
        if wanted.offset < NBYTES:
            self._outgoing[wanted.transfer] = self.desk.spawn(self._send_chunks(wanted, self.desk.model))
        else:
            self._model_delivered(wanted.round)

    def _send_chunks(self, wanted: ModelWanted, model: str) -> Job[None]:
        for offset in range(wanted.offset, NBYTES):
            yield self._world.soon(self._world.plan.slowest_message_s)
            self.link.to_worker.send(Chunk(wanted.transfer, offset, model))
        del self._outgoing[wanted.transfer]
        yield self._world.soon(self._world.plan.slowest_message_s)
        if self.is_alive():
            self._model_delivered(wanted.round)

    def _model_delivered(self, number: int) -> None:
        for _ in range(1 + self._world.strikes(0.1)):  # a worker may say that it has it, and acknowledge it too
            self.desk.events.post(ModelDelivered(self.worker, number))

    def consider(self, offered: UpdateOffered) -> None:
        """Take an update, or say why not."""
        desk = self.desk
        self._world.witness.offered(self.worker, offered)
        if desk.rounds.refusal(self.worker, offered.round) is not None:
            self._world.counts["late updates"] += 1
            self._refuse(offered.round)
        elif desk.offer is None or self.is_of_another_round(offered):
            raise Violation(Claim.NO_BREACH, f"{self.worker} offers an update of a model that it was not offered")
        elif self.worker in desk.rounds.delivered:
            self.update_stored(offered.round)
        elif self.worker in desk.delivered:
            return
        elif self._is_uploading():
            raise Violation(Claim.NO_BREACH, f"{self.worker} offers a second update while it sends the first")
        else:
            self.receive(offered)

    def is_of_another_round(self, offered: UpdateOffered) -> bool:
        """Whether an update is not of the model on offer."""
        return offered.round != self.desk.offer

    def receive(self, offered: UpdateOffered) -> None:
        """Ask for what is missing of an update."""
        incoming = self.desk.place_for(self.worker, offered)
        self._upload, self._upload_transfer = incoming, offered.transfer
        offset = NBYTES if incoming.is_being_kept else len(incoming.file.content) // len(offered.sha256)
        if offset < NBYTES:
            self._expected[offered.transfer] = incoming
        self.send(UpdateWanted(round=offered.round, transfer=offered.transfer, offset=offset))
        if offset == NBYTES:
            self.desk.keep(self.worker, incoming)

    def _take_chunk(self, chunk: Chunk) -> None:
        if chunk.transfer not in self._expected:
            raise Violation(Claim.NO_BREACH, f"{self.worker} sends a chunk that was not asked for: {chunk}")
        is_last = chunk.offset == NBYTES - 1
        incoming = self._expected.pop(chunk.transfer) if is_last else self._expected[chunk.transfer]
        if incoming is None or incoming.is_closed:
            return
        incoming.file.content = chunk.content if is_last else incoming.offered.sha256
        if is_last:
            self.desk.keep(self.worker, incoming)

    def _is_uploading(self) -> bool:
        return self._upload is not None and not self._upload.is_settled

    def _refuse(self, number: int) -> None:
        self.send(UpdateRefused(round=number, code="late", reason="the round has closed"))


# The workers

TRAINING: dict[str, object] = {"local_epochs": 1}


class Worker(Host):
    """The model of `Worker` and `Workshop`, with the disk beneath; what `start` sets is a process's memory."""

    def __init__(self, world: World, name: WorkerName) -> None:
        super().__init__(world, name)
        self.worker = name
        self._disk_number = 0
        self._format_disk()
        self._link: Connection | None = None
        self._is_up = False

    def start(self) -> None:
        """Begin a process."""
        self.life += 1
        self.world.say(self.name, "starts")
        self._is_up = True
        self._session: WorkerSession | None = None
        self._chain = OwnChain(run=RUN, worker=self.name, check_signature=lambda *_: None)
        self._events = Mailbox()
        self._link = None
        self._received = 0  # bytes of the round's model
        self._receives: int | None = None  # which transfer
        self._base = ""
        self._training: Task | None = None
        self._looks_for_saved = True
        self._update = ""
        self._main = self.spawn(self._keep_connected())

    def crash(self) -> None:
        """Die, and start again some time later."""
        if self._is_up:
            self.world.counts["worker crashes"] += 1
            self.world.say(self.name, "dies")
            link = self._link
            self._end_process()
            if link is not None:
                link.cut()

    def leave(self) -> None:
        """Say goodbye, and come back some time later."""
        if self._is_up:
            self.world.counts["goodbyes"] += 1
            link = self._link
            if link is not None:
                link.to_coordinator.send(Goodbye(code="left", reason="stopped by its operator"))
                link.close_by_worker()
            self._end_process()

    def lose_disk(self) -> None:
        """Die, and start again on an empty disk."""
        if self._is_up:
            self.world.counts["lost disks"] += 1
            self.crash()
            self._disk_number += 1
            self._format_disk()

    def lose_link(self) -> None:
        """Lose the connection."""
        if self._link is not None:
            self._link.cut()

    def hear(self, link: Connection, life: int, said: object) -> None:
        """Take what the coordinator says, or the end of the connection."""
        if life == self.life and link is self._link:
            if isinstance(said, UpdateAccepted):
                self.world.witness.acknowledged(self.worker, said.round)
            self._events.post((said,))

    def _format_disk(self) -> None:
        self._saved: tuple[int, str] | None = None  # round and model of the training that is saved
        self._acknowledged: dict[int, str] = {}
        self._header: bytes | None = None

    def _end_process(self) -> None:
        self.life += 1
        self._is_up, self._link = False, None
        self.world.at(self.world.soon(self.world.plan.longest_outage_s), self.start)

    def _keep_connected(self) -> Job[None]:
        delay_s = 1.0
        while not self.world.coordinator.has_finished:
            yield self.world.soon(0.5)
            if self.world.coordinator.is_listening:
                self._connect()
                if (yield from self._serve()):
                    return
                self._detach()
                delay_s = 1.0
            yield self.world.now + delay_s * self.world.dice.uniform(0.5, 1.5)
            delay_s = min(2 * delay_s, 30.0)

    def _connect(self) -> None:
        session = Session(self.world.coordinator, self.worker)
        self._link = Connection(self.world, self, session)
        self.world.coordinator.accept(session, self._link)

    def _serve(self) -> Job[bool]:
        """Return whether the run is over, once the connection is."""
        while (said := (yield from self._next_said())) is not LOST:
            if isinstance(said, Welcome):
                yield from self._prepare()
            elif isinstance(said, Chunk):
                self._take_chunk(said)
            else:
                event = at_worker.Heard(said) if isinstance(said, Message) else said
                for command in self._handle(event):
                    if isinstance(command, at_worker.SessionEnded):
                        return command.code == "finished"
                    yield from self._carry_out(command)
        return False

    def _next_said(self) -> Job[object]:
        yield from self._events.wait(self._main, math.inf)
        event = self._events.popleft()
        return event[0] if isinstance(event, tuple) else event

    def _prepare(self) -> Job[None]:
        if self._session is None:
            yield self.world.soon(2.0)
            if self._header is not None:
                self._chain.restore(self._header)
            self._session = WorkerSession(
                model="m", consent=WorkerConsent(), chain=self._chain, acknowledged=self._acknowledged
            )
        self._send(Ready(manifest="", samples=1, device="cpu", known_record=self._chain.round))

    def _handle(self, event: object) -> list[at_worker.Command]:
        assert self._session is not None
        try:
            return self._session.handle(event)  # type: ignore[arg-type]
        except AuditError as exc:
            raise Violation(Claim.CHAIN_HOLDS, f"{self.name}: {exc}") from exc
        except RemoteProtocolError as exc:
            raise Violation(Claim.NO_BREACH, f"{self.name}: {exc}") from exc

    def _carry_out(self, command: at_worker.Command) -> Job[None]:
        match command:
            case at_worker.Send(message):
                self._send(message)
            case at_worker.StopReceiving():
                self._receives = None
            case at_worker.BeginTask(started):
                self._receives, self._received, self._base = None, 0, started.sha256
                self._stop_training()
            case at_worker.ReceiveModel(started):
                self._receive(started)
            case at_worker.Train(started, _):
                self._training = self.spawn(self._train(started.round, started.sha256))
            case at_worker.SendUpdate(transfer, offset, _):
                self.spawn(self._send_update(transfer, offset))
            case at_worker.KeepAcknowledged(number, sha256):
                yield from self.write("keeps what was acknowledged", lambda: self._keep_acknowledged(number, sha256))
            case at_worker.KeepHeader(header):
                yield from self.write("keeps a header", lambda: self._keep_header(header))
            case at_worker.KeepRecord(shown):
                yield from self.write("keeps a record", lambda: self._keep_header(shown.header))

    def _keep_acknowledged(self, number: int, sha256: str) -> None:
        self._acknowledged[number] = sha256

    def _keep_header(self, header: bytes) -> None:
        self._header = header

    def _send(self, message: object) -> None:
        if self._link is not None:
            self._link.to_coordinator.send(message)

    def _receive(self, started: RoundStarted) -> None:
        if self._receives is not None:
            raise Violation(Claim.NO_BREACH, f"{self.name}: transfer {self._receives} is under way already")
        if self._received < NBYTES:
            self._receives = started.transfer
        else:
            self._events.post(at_worker.ModelReceived(started.round))
        self._send(ModelWanted(round=started.round, transfer=started.transfer, offset=self._received))

    def _take_chunk(self, chunk: Chunk) -> None:
        if chunk.transfer != self._receives:
            raise Violation(
                Claim.NO_BREACH, f"{self.name}: chunk of transfer {chunk.transfer}, which was not asked for"
            )
        assert chunk.offset == self._received and chunk.content == self._base
        self._received += 1
        if self._received == NBYTES:
            self._receives = None
            self._events.post(at_worker.ModelReceived(chunk.transfer))

    def _train(self, number: int, base: str) -> Job[None]:
        is_saved, self._looks_for_saved = self._looks_for_saved and self._saved == (number, base), False
        yield self.world.soon(0.1 if is_saved else self.world.plan.longest_training_s)
        if not is_saved:
            yield from self.write(f"saves its training of round {number}", lambda: self._save(number, base))
        self._update = Update(self.worker, number, base, self._disk_number).content
        saved = at_worker.UpdateSaved(
            round=number, nbytes=NBYTES, sha256=digest_of(self._update), samples=1, train_s=1.0, loss=0.5
        )
        self._events.post(saved)

    def _save(self, number: int, base: str) -> None:
        self._saved = number, base

    def _stop_training(self) -> None:
        if self._training is not None:
            self._training.cancel()
            self._training = None

    def _send_update(self, transfer: int, start: int) -> Job[None]:
        link, content = self._link, self._update
        for offset in range(start, NBYTES):
            yield self.world.soon(self.world.plan.slowest_message_s)
            if link is not None and link is self._link:
                link.to_coordinator.send(Chunk(transfer, offset, content))
        self._may_die("after sending its update")

    def _detach(self) -> None:
        if self._link is not None:
            self._link.close_by_worker()
        self._link, self._receives = None, None
        kept = [event for event in self._events if not isinstance(event, tuple)]
        self._events.clear()
        self._events.extend(kept)
        if self._session is not None:
            self._session.handle(at_worker.LinkLost())


# What must hold


class Witness:
    """Sees everything, as nobody in the run can, and raises `Violation` at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._acknowledged: set[tuple[WorkerName, int]] = set()
        self._offered: set[tuple[WorkerName, int]] = set()
        self._committed: list[Committed] = []

    def offered(self, worker: WorkerName, offered: UpdateOffered) -> None:
        """Count what is offered again."""
        self._world.counts["offers again"] += (worker, offered.round) in self._offered
        self._offered.add((worker, offered.round))

    def acknowledged(self, worker: WorkerName, number: int) -> None:
        """A worker was told that its update of this round is stored."""
        self._acknowledged.add((worker, number))
        if number <= len(self._committed):
            self._require_in_record(worker, number)
            return
        is_stored = (number, worker) in self._world.coordinator.database.updates
        self._require(is_stored, Claim.NOTHING_LOST, f"{worker} was told that its update of round {number} is stored")

    def recovered(self, number: int, found: Mapping[WorkerName, Delivered]) -> None:
        """A process takes up a round with these updates."""
        lost = {worker for worker in self._told_of(number) if worker not in found}
        self._require(not lost, Claim.NOTHING_LOST, f"round {number} goes on without {sorted(lost)}")

    def restarted(self) -> None:
        """A process begins: what was committed is there, with its model."""
        coordinator = self._world.coordinator
        stands = coordinator.database.rounds == self._committed
        self._require(stands, Claim.HISTORY_STANDS, f"{len(self._committed)} rounds were committed")
        for each in self._committed:
            file = coordinator.disk.names.get(checkpoint_path(each.round))
            is_there = file is not None and file.content == each.model
            self._require(is_there, Claim.HISTORY_STANDS, f"the model of round {each.round} is gone")

    def aggregated(self, number: int, base: str, contents: Iterable[tuple[WorkerName, str]]) -> None:
        """A round is combined from what lies in these workers' files."""
        found = [(worker, update_in(content)) for worker, content in contents]
        names = [worker for worker, _ in found]
        self._require(len(set(names)) == len(names), Claim.COUNTED_ONCE, f"round {number} counts {names}")
        self._require(names == sorted(names), Claim.IN_ORDER, f"round {number} combines {names}")
        for worker, update in found:
            is_own = (update.worker, update.round, update.base) == (worker, number, base)
            self._require(is_own, Claim.OWN_ROUND, f"round {number} takes for {worker}: {update}")

    def committed(self, committed: Committed) -> None:
        """A round becomes part of the run."""
        number = committed.round
        follows = number == len(self._committed) + 1
        self._require(follows, Claim.HISTORY_STANDS, f"round {number} after round {len(self._committed)}")
        self._committed.append(committed)
        for worker in self._told_of(number):
            self._require_in_record(worker, number)

    def asked(self, session: Session, number: int, life: int) -> None:
        """A while ago a worker was sent the model of this round."""
        rounds, worker = self._world.coordinator.rounds, session.worker
        is_open = rounds.round_number == number and rounds.phase in (Phase.DISTRIBUTING, Phase.COLLECTING)
        if is_open and session.is_alive() and self._world.workers[worker].life == life:
            self._require(worker in rounds.delivered, Claim.ASKED_DELIVERS, f"nothing of {worker} in round {number}")

    def parked(self, reason: str) -> None:
        """The run stops for now."""
        self._world.counts["parks"] += 1
        self._require(bool(reason), Claim.RUN_ENDS, "parked without a reason")

    def ended(self) -> None:
        """Everything that could happen has."""
        plan, coordinator = self._world.plan, self._world.coordinator
        has_all = coordinator.has_finished and len(self._committed) == plan.settings.rounds
        self._require(
            has_all,
            Claim.RUN_ENDS,
            f"{len(self._committed)} of {plan.settings.rounds} rounds after {self._world.now:.0f} s",
        )
        if plan.everybody_can_deliver:
            is_same = self._committed[-1].model == undisturbed(plan)
            self._require(is_same, Claim.SAME_MODEL, f"{[len(each.verdicts) for each in self._committed]} updates")

    def _told_of(self, number: int) -> list[WorkerName]:
        return sorted(worker for worker, told in self._acknowledged if told == number)

    def _require_in_record(self, worker: WorkerName, number: int) -> None:
        is_in = self._committed[number - 1].verdict_on(worker) is not None
        self._require(is_in, Claim.NOTHING_LOST, f"{worker} was told that its update of round {number} is stored")

    def _require(self, holds: bool, claim: Claim, found: str) -> None:
        if not holds:
            raise Violation(claim, found)


# Seeds


def simulate(seed: int, *, tell: Callable[[str], None] | None = None) -> Counter[str]:
    """Play a seed and return what happened in it; raises `Violation` with the end of its trace."""
    world = World(seed, tell=tell)
    try:
        world.play()
    except Violation as exc:
        raise Violation(exc.claim, f"{exc.args[0].partition('; found: ')[2]}\n{_report(seed, world)}") from exc
    except Exception as exc:
        exc.add_note(_report(seed, world))
        raise
    return world.counts


def replay(seed: int) -> None:
    """Play a seed again and print its whole trace."""
    simulate(seed, tell=click.echo)


def _report(seed: int, world: World) -> str:
    return "\n".join([f"seed {seed}, {world.plan}", *world.trace(), f"replay({seed}) shows all of it"])


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--first", type=click.IntRange(0), default=0, show_default=True)
def main(seeds: int, first: int) -> None:
    """Play so many seeds, and say what happened; ends with an error at the first claim that does not hold."""
    began, counts = time.perf_counter(), Counter[str]()
    for seed in range(first, first + seeds):
        try:
            counts += simulate(seed)
        except Violation as exc:
            raise click.ClickException(str(exc)) from exc
        if (seed - first) % 100 == 99:
            click.echo(f"\r{seed - first + 1} seeds, {time.perf_counter() - began:.0f} s", nl=False, err=True)
    seconds = time.perf_counter() - began
    click.echo(f"\r{seeds} seeds in {seconds:.0f} s ({1000 * seconds / seeds:.1f} ms each): {_listed(counts)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


if __name__ == "__main__":
    main()
