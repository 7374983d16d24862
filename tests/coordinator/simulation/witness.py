"""What must hold in every run, and who watches over it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from fednet.config import WorkerName
from fednet.coordinator.round import Phase, Rounds
from fednet.protocol.messages import UpdateAccepted, UpdateOffered
from tests.coordinator.simulation.clock import World
from tests.coordinator.simulation.database import Committed, Database
from tests.coordinator.simulation.disk import Disk
from tests.coordinator.simulation.network import Connection
from tests.coordinator.simulation.updates import digest_of, undisturbed, update_in

AFTERWARDS_S = 200.0  # once the run has ended and nothing breaks: whoever is away comes back


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
    STOPS = "a coordinator that is asked to stop does"
    END_IS_TOLD = "a worker that comes back in time hears that the run is over"
    CHAIN_HOLDS = "no worker finds fault with an honest coordinator's record"
    NO_BREACH = "neither side takes the other for one that breaks the protocol"


class Violation(AssertionError):
    """A claim did not hold."""

    def __init__(self, claim: Claim, found: str) -> None:
        self.claim = claim
        self.found = found
        super().__init__(f"{claim.value}; found: {found}")


class Witness:
    """Sees everything, as nobody in the run can, and raises `Violation` at once."""

    def __init__(self, world: World, disk: Disk, database: Database) -> None:
        self._world, self._disk, self._database = world, disk, database
        self._acknowledged: dict[tuple[WorkerName, int], str] = {}
        self._offered: set[tuple[WorkerName, int]] = set()
        self._committed: list[Committed] = []
        self._dismissed: dict[WorkerName, Connection] = {}  # the last connection over which it was told of the end
        self._heard_the_end: set[WorkerName] = set()
        self._is_over = self._nobody_is_seen_off = False
        world.ends_at = world.plan.ends_within_s

    # The round

    def asked(self, worker: WorkerName, number: int, rounds: Rounds) -> None:
        """A while ago a worker, connected since, was sent the model of this round."""
        if rounds.round_number == number and rounds.phase in (Phase.DISTRIBUTING, Phase.COLLECTING):
            self._require(worker in rounds.delivered, Claim.ASKED_DELIVERS, f"nothing of {worker} in round {number}")

    def offered(self, worker: WorkerName, offered: UpdateOffered) -> None:
        """Count what is offered again."""
        self._world.counts["offers again"] += (worker, offered.round) in self._offered
        self._offered.add((worker, offered.round))

    def acknowledged(self, worker: WorkerName, accepted: UpdateAccepted) -> None:
        """A worker was told that this update of it is stored."""
        key, sha256 = (worker, accepted.round), accepted.sha256
        told = self._acknowledged.setdefault(key, sha256)
        self._require(told == sha256, Claim.NOTHING_LOST, f"{key}: acknowledged was {told}, and then {sha256}")
        if accepted.round <= len(self._committed):
            self._require_in_record(worker, accepted.round)
            return
        is_stored = self._database.updates.get((accepted.round, worker)) == sha256
        self._require(is_stored, Claim.NOTHING_LOST, f"{worker} was told that round {accepted.round} has {sha256}")

    def aggregated(self, number: int, base: str, contents: Sequence[tuple[WorkerName, str, str]]) -> None:
        """A round is combined from what lies in these workers' files, which have these digests."""
        found = [(worker, update_in(content)) for worker, content, _ in contents]
        names = [worker for worker, _ in found]
        self._require(len(set(names)) == len(names), Claim.COUNTED_ONCE, f"round {number} counts {names}")
        self._require(names == sorted(names), Claim.IN_ORDER, f"round {number} combines {names}")
        for worker, content, sha256 in contents:
            update = update_in(content)
            is_own = (update.worker, update.round, update.base) == (worker, number, base)
            self._require(is_own, Claim.OWN_ROUND, f"round {number} takes for {worker}: {update}")
            is_it = digest_of(content) == sha256
            self._require(is_it, Claim.NOTHING_LOST, f"round {number}: {worker}'s file is not what was delivered")

    def committed(self, committed: Committed) -> None:
        """A round becomes part of the run."""
        number = committed.round
        follows = number == len(self._committed) + 1
        self._require(follows, Claim.HISTORY_STANDS, f"round {number} after round {len(self._committed)}")
        self._committed.append(committed)
        for worker in self._told_of(number):
            self._require_in_record(worker, number)
        if self._has_ended:
            self._world.ends_at = max(self._world.now, self._world.plan.heals_s) + AFTERWARDS_S

    # The coordinator's processes

    def restarted(self) -> None:
        """A process begins: what was committed is there, with its model."""
        stands = self._database.rounds == self._committed
        self._require(stands, Claim.HISTORY_STANDS, f"{len(self._committed)} rounds were committed")
        for each in self._committed:
            file = self._disk.names.get(checkpoint_path(each.round))
            is_there = file is not None and file.content == each.model
            self._require(is_there, Claim.HISTORY_STANDS, f"the model of round {each.round} is gone")

    def recovered(self, number: int, found: Mapping[WorkerName, str]) -> None:
        """A process takes up a round with updates of these digests."""
        lost = [each for each in self._told_of(number) if found.get(each) != self._acknowledged[each, number]]
        self._require(not lost, Claim.NOTHING_LOST, f"round {number} goes on without {lost}")

    def parked(self, reason: str) -> None:
        """The run stops for now."""
        self._world.counts["parks"] += 1
        self._require(bool(reason), Claim.RUN_ENDS, "parked without a reason")

    def still_runs(self) -> None:
        """A process that was asked to stop a while ago is there."""
        self._require(False, Claim.STOPS, f"it goes on after {self._world.plan.stops_within_s:.0f} s")

    # The end

    def dismissed(self, worker: WorkerName, link: Connection) -> None:
        """A worker is told that the run is over, if this connection holds."""
        self._dismissed[worker] = link

    def has_seen_off(self) -> None:
        """The coordinator's process ends, and the run with it where everybody knows."""
        self._is_over = True
        self._end_where_everybody_knows()

    def nobody_is_seen_off(self) -> None:
        """The coordinator was stopped while it waited for those who do not know of the end."""
        self._nobody_is_seen_off = True

    def heard_the_end(self, worker: WorkerName) -> None:
        """A worker knows that the run is over."""
        self._heard_the_end.add(worker)
        self._end_where_everybody_knows()

    def ended(self) -> None:
        """Everything that could happen has."""
        plan, rounds = self._world.plan, self._world.plan.settings.rounds
        found = f"{len(self._committed)} of {rounds} rounds after {self._world.now:.0f} s"
        self._require(self._has_ended, Claim.RUN_ENDS, found)
        if plan.everybody_can_deliver:
            is_same = self._committed[-1].model == undisturbed(plan)
            self._require(is_same, Claim.SAME_MODEL, f"{[len(each.verdicts) for each in self._committed]} updates")
            if not self._nobody_is_seen_off:
                self._require_told()

    def _end_where_everybody_knows(self) -> None:
        if self._is_over and len(self._heard_the_end) == len(self._world.plan.workers):
            self._world.ends_at = self._world.now

    @property
    def _has_ended(self) -> bool:
        return len(self._committed) == self._world.plan.settings.rounds

    def _require_told(self) -> None:
        for worker in self._world.plan.workers:
            link = self._dismissed.get(worker)
            knows = worker in self._heard_the_end or (link is not None and link.has_broken)
            self._require(knows, Claim.END_IS_TOLD, f"{worker} still tries to come back")

    def _told_of(self, number: int) -> list[WorkerName]:
        return sorted(worker for worker, told in self._acknowledged if told == number)

    def _require_in_record(self, worker: WorkerName, number: int) -> None:
        _, verdict = self._committed[number - 1].verdict_on(worker) or (0, None)
        is_in = verdict is not None and verdict.sha256 == self._acknowledged[worker, number]
        self._require(is_in, Claim.NOTHING_LOST, f"{worker} was told that its update of round {number} is stored")

    def _require(self, holds: bool, claim: Claim, found: str) -> None:
        if not holds:
            raise Violation(claim, found)


def checkpoint_path(number: int) -> str:
    """Return where a round's model lies."""
    return f"checkpoints/{number}"
