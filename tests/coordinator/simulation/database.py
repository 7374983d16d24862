"""The run's database and what its rows hold: a transaction is atomic and durable (SQLite's part, not ours)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

from fednet.audit import merkle
from fednet.audit.own_chain import Shown
from fednet.audit.record import NOTHING_BEFORE, SignedRecord, canonical, make_header
from fednet.config import WorkerName
from tests.coordinator.simulation.clock import Host, Job
from tests.coordinator.simulation.updates import FIRST_MODEL, is_selected

RUN = "0123456789abcdef"


@dataclass(frozen=True)
class Verdict:
    """What a round's document says of one update."""

    worker: WorkerName
    sha256: str

    @cached_property
    def entry(self) -> bytes:
        """What the round's record says of it."""
        claims = {"selected": is_selected(self.sha256), "weight": 0.0, "reason": ""}
        return canonical({"worker": self.worker, "update_sha256": self.sha256, **claims})


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

    @cached_property
    def tree(self) -> merkle.Tree:
        """The tree over its record's entries."""
        return merkle.Tree([verdict.entry for verdict in self.verdicts])


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


@cache
def _beginning() -> SignedRecord:
    return record_of(Committed(0, FIRST_MODEL, ()), FIRST_MODEL, NOTHING_BEFORE)


def shown(record: SignedRecord, committed: Committed, worker: WorkerName) -> Shown:
    """Return a round's record as this worker may see it."""
    place, verdict = committed.verdict_on(worker) or (0, None)
    return Shown(
        header=record.header,
        signature=record.signature,
        certificate=record.certificate,
        entry=verdict.entry if verdict else b"",
        position=place,
        path=committed.tree.path(place) if verdict else b"",
    )


class Database:
    """The run's tables."""

    def __init__(self) -> None:
        self.begun: dict[int, frozenset[WorkerName]] = {}
        self.updates: dict[tuple[int, WorkerName], str] = {}
        self.rounds: list[Committed] = []
        self.records = [_beginning()]
        self._is_busy_until = 0.0

    def open(self) -> None:
        """Begin with it, in a new process: no transaction is under way."""
        self._is_busy_until = 0.0

    def transact(self, host: Host, what: str, apply: Callable[[], object]) -> Job[None]:
        """Change the tables: one transaction waits for the one before."""
        world = host.world
        begins = max(world.now, self._is_busy_until)
        self._is_busy_until = begins + world.dice.random() * world.plan.write_s
        yield from host.write_by(self._is_busy_until, what, apply)

    def commit(self, committed: Committed, record: SignedRecord) -> None:
        """Add a round with its record."""
        self.rounds.append(committed)
        self.records.append(record)
