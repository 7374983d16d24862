"""Many seeds of the simulator hold every claim; faults planted in the cores or the shells do not pass."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from fednet.config import WorkerName
from fednet.coordinator.round import Aggregate, Command, Event, RoundRecovered, Rounds, StartRound, UpdateStored
from fednet.protocol.messages import RoundStarted, UpdateOffered, UpdateWanted
from fednet.worker import session as at_worker
from fednet.worker.session import Heard, LinkLost, SendUpdate, Stage, WorkerSession
from tests.coordinator import simulator
from tests.coordinator.simulator import Claim, Coordinator, Disk, Incoming, Job, Session, Violation, simulate

SEEDS = 2000
CAUGHT_WITHIN = 300  # seeds
HAPPENS = (
    "catch-ups",
    "cuts",
    "goodbyes",
    "kills",
    "late updates",
    "lost disks",
    "offers again",
    "parks",
    "power losses",
    "recovered updates",
    "rounds without everybody",
    "stops",
    "worker crashes",
)


class HastyCoordinator(Coordinator):
    """Acknowledges an update before it has synced its file."""

    def make_durable(self, worker: WorkerName, incoming: Incoming) -> Job[None]:
        yield from self.add_row(worker, incoming)
        incoming.is_settled = True
        self.take(worker, incoming)
        yield from self.sync_content(incoming)
        yield from self.sync_name(incoming)


class NamelessCoordinator(Coordinator):
    """Syncs an update's file, and not the folder that has its name."""

    def sync_name(self, incoming: Incoming) -> Job[None]:
        yield from ()


class BelatedRounds(Rounds):
    """Takes an update of a round that is over."""

    def refusal(self, worker: WorkerName, round_number: int) -> str | None:
        return super().refusal(worker, max(round_number, self.round_number))


class BelatedSession(Session):
    """Does not look at the round of an offer, and says nothing where that would show."""

    def is_of_another_round(self, offered: UpdateOffered) -> bool:
        return False

    def update_stored(self, number: int) -> None:
        found = self.desk.delivered.get(self.worker)
        if found is not None and found.path == simulator.spool_path(number, self.worker):
            super().update_stored(number)


class BelatedWorkerSession(WorkerSession):
    """Offers what it has when the next round begins."""

    def handle(self, event: at_worker.Event) -> list[at_worker.Command]:
        match event:
            case Heard(UpdateWanted(transfer=transfer, offset=offset, window=window)):
                return [SendUpdate(transfer, offset, window)]
            case Heard(RoundStarted(round=number)) if number != self.round_number and self.stage is Stage.DELIVERED:
                return [*self._offer(), *super().handle(event)]
        return super().handle(event)


class CountingRounds(Rounds):
    """Counts updates as they come, not workers."""

    counted: list[WorkerName]

    def handle(self, event: Event, *, now: float) -> list[Command]:
        if isinstance(event, RoundRecovered):
            self.counted = list(event.delivered)
        if isinstance(event, UpdateStored) and self.refusal(event.worker, event.round) is None:
            self.counted.append(event.worker)
        commands = super().handle(event, now=now)
        if StartRound(self.round_number) in commands and not isinstance(event, RoundRecovered):
            self.counted = []
        is_counted = [isinstance(command, Aggregate) for command in commands]
        return [
            Aggregate(self.round_number, tuple(sorted(self.counted))) if counts else command
            for counts, command in zip(is_counted, commands, strict=True)
        ]


class RepeatingCoordinator(Coordinator):
    """Reports an update again when its worker comes back."""

    def catch_up(self, worker: WorkerName) -> None:
        super().catch_up(worker)
        if worker in self.rounds.delivered:
            self.events.post(UpdateStored(worker, self.rounds.round_number))


class ForgetfulSession(WorkerSession):
    """Does not offer an update again that it had when the connection broke."""

    def handle(self, event: at_worker.Event) -> list[at_worker.Command]:
        if isinstance(event, LinkLost):
            self._update = None
        return super().handle(event)


LATE: dict[str, type] = {"Rounds": BelatedRounds, "Session": BelatedSession, "WorkerSession": BelatedWorkerSession}
PLANTED: dict[str, tuple[Claim, dict[str, type]]] = {
    "acknowledges before the fsync": (Claim.NOTHING_LOST, {"Coordinator": HastyCoordinator}),
    "takes a late update": (Claim.OWN_ROUND, LATE),
    "counts a duplicate": (Claim.COUNTED_ONCE, {"Rounds": CountingRounds, "Coordinator": RepeatingCoordinator}),
    "skips the folder's fsync": (Claim.NOTHING_LOST, {"Coordinator": NamelessCoordinator}),
    "forgets the retry": (Claim.ASKED_DELIVERS, {"WorkerSession": ForgetfulSession}),
}


def violations(seeds: range) -> Iterator[Violation]:
    for seed in seeds:
        try:
            simulate(seed)
        except Violation as exc:
            yield exc


def test_every_claim_holds_in_every_seed_and_everything_that_can_break_does() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        counts += simulate(seed)
    assert [what for what in HAPPENS if not counts[what]] == []


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, parts = PLANTED[fault]
    for name, part in parts.items():
        monkeypatch.setattr(simulator, name, part)
    assert claim in (found.claim for found in violations(range(CAUGHT_WITHIN)))


def test_a_seed_plays_the_same_again() -> None:
    for seed in range(10):
        first, second = list[str](), list[str]()
        simulate(seed, tell=first.append)
        simulate(seed, tell=second.append)
        assert first == second
        assert len(first) > 20


def test_a_violation_says_how_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "Coordinator", NamelessCoordinator)
    text = str(next(violations(range(CAUGHT_WITHIN))))
    seed = int(text.rpartition("replay(")[2].partition(")")[0])
    assert len(text.splitlines()) == simulator.TRACED + 3
    with pytest.raises(Violation) as again:
        simulator.replay(seed)
    assert str(again.value) == text


def disk_with(*, content_synced: bool, name_synced: bool) -> Disk:
    disk = Disk()
    file = disk.create("folder/file")
    file.content = "content"
    if content_synced:
        disk.sync(file)
    if name_synced:
        disk.sync_folder("folder/")
    return disk


def found_after_power_losses(**synced: bool) -> set[str | None]:
    found = set()
    for seed in range(50):
        disk = disk_with(**synced)
        disk.lose_power(random.Random(seed))
        file = disk.names.get("folder/file")
        found.add(None if file is None else file.content)
    return found


def test_a_power_loss_may_take_what_was_not_synced_and_nothing_else() -> None:
    assert found_after_power_losses(content_synced=True, name_synced=True) == {"content"}
    assert found_after_power_losses(content_synced=True, name_synced=False) == {"content", None}
    assert found_after_power_losses(content_synced=False, name_synced=True) == {"content", "con", ""}
