"""The model of `coordinator.desk.Desk`: what the sessions of one process share, and how an update becomes durable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fednet.config import WorkerName
from fednet.coordinator.round import Rounds, UpdateStored
from fednet.protocol.messages import UpdateOffered
from tests.coordinator.simulation.clock import Host, Job, Mailbox
from tests.coordinator.simulation.database import Database
from tests.coordinator.simulation.disk import Disk, File
from tests.coordinator.simulation.witness import Witness


@dataclass(eq=False)
class Incoming:
    """An update on its way, over however many connections."""

    offered: UpdateOffered
    path: str
    file: File
    is_being_kept: bool = False
    is_settled: bool = False


@dataclass(frozen=True)
class Delivered:
    """A durable update."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Offer:
    """The model of one round, by its digest."""

    round: int
    sha256: str


def spool_path(number: int, worker: WorkerName) -> str:
    """Return where an update lies."""
    return f"spool/{number}/{worker}"


class Desk:
    """The shared table of one process."""

    def __init__(self, host: Host, witness: Witness, disk: Disk, database: Database, rounds: Rounds) -> None:
        self.host, self.witness, self.disk, self.database, self.rounds = host, witness, disk, database, rounds
        self.events = Mailbox()
        self.offer: Offer | None = None
        self.delivered: dict[WorkerName, Delivered] = {}
        self.is_gone = False  # with its process
        self._incoming: dict[WorkerName, Incoming] = {}

    def begin_round(self, offer: Offer, delivered: Mapping[WorkerName, Delivered]) -> None:
        """Offer a model and take updates for it; `delivered` are there already."""
        self.leave_round()
        self.offer = offer
        self.delivered.update(delivered)

    def leave_round(self) -> None:
        """Take no more updates."""
        self._incoming.clear()
        self.delivered.clear()
        self.offer = None

    def end_round(self) -> None:
        """Leave a committed round: what is on disk of its updates has done its part."""
        assert self.offer is not None
        folder = f"spool/{self.offer.round}/"
        self.leave_round()
        for path in [path for path in self.disk.names if path.startswith(folder)]:
            self.disk.unlink(path)

    def incoming(self, worker: WorkerName, offered: UpdateOffered) -> Incoming:
        """Return where an offered update goes; the same one goes on where it stopped."""
        known = self._incoming.get(worker)
        if known is not None and known.offered.sha256 == offered.sha256:
            return known
        path = spool_path(offered.round, worker)
        self.disk.unlink(path)
        self._incoming[worker] = Incoming(offered, path, self.disk.create(path))
        return self._incoming[worker]

    def keep(self, worker: WorkerName, incoming: Incoming) -> None:
        """Make a whole update durable, whatever becomes of the connection."""
        if not incoming.is_being_kept:
            incoming.is_being_kept = True
            self.host.spawn(self.make_durable(worker, incoming))

    def make_durable(self, worker: WorkerName, incoming: Incoming) -> Job[None]:
        """Sync an update's file, then its name, then add its row; only then it counts."""
        yield from self.sync_content(incoming)
        yield from self.sync_name(incoming)
        if self.is_wanted(worker, incoming):
            yield from self.add_row(worker, incoming)
        incoming.is_settled = True
        if self.is_wanted(worker, incoming):
            self.take(worker, incoming)

    def sync_content(self, incoming: Incoming) -> Job[None]:
        """Make what an update's file holds durable."""
        sync_s = self.host.world.plan.sync_s
        yield from self.host.write(f"syncs {incoming.path}", lambda: self.disk.sync(incoming.file), longest_s=sync_s)

    def sync_name(self, incoming: Incoming) -> Job[None]:
        """Make the name of an update's file durable."""
        folder = incoming.path.rpartition("/")[0] + "/"
        yield from self.host.write(f"syncs {folder}", lambda: self.disk.sync_folder(folder))

    def add_row(self, worker: WorkerName, incoming: Incoming) -> Job[None]:
        """Remember an update that is durable, in place of one whose file it replaced."""
        number, sha256 = incoming.offered.round, incoming.offered.sha256
        yield from self.database.transact(
            self.host, f"adds the row of {worker}", lambda: self.store(number, worker, sha256)
        )

    def store(self, number: int, worker: WorkerName, sha256: str) -> None:
        """The model of `RunStore.update_stored`."""
        self.host.world.counts["rows replaced"] += (number, worker) in self.database.updates
        self.database.updates[number, worker] = sha256

    def take(self, worker: WorkerName, incoming: Incoming) -> None:
        """Count a durable update."""
        self._incoming.pop(worker, None)
        self.delivered[worker] = Delivered(incoming.path, incoming.offered.sha256)
        self.events.post(UpdateStored(worker, incoming.offered.round))

    def is_wanted(self, worker: WorkerName, incoming: Incoming) -> bool:
        """Whether an update still has its place: neither has its round closed, nor has another one come instead."""
        return self._incoming.get(worker) is incoming
