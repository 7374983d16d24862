"""Many seeds of the simulation hold every claim; faults planted in the cores or the shells do not pass."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from tests.coordinator.simulation.__main__ import main
from tests.coordinator.simulation.clock import TRACED
from tests.coordinator.simulation.disk import Disk
from tests.coordinator.simulation.federation import simulate
from tests.coordinator.simulation.planted import PLANTED, Planted
from tests.coordinator.simulation.weather import WEATHERS
from tests.coordinator.simulation.witness import Violation

SEEDS = 2000
CAUGHT_WITHIN = 600  # seeds
HAPPENS = (
    "catch-ups",
    "cuts",
    "goodbyes",
    "kills",
    "late updates",
    "lost disks",
    "models not wanted any more",
    "models refused",
    "models stopped",
    "offers again",
    "parks",
    "power losses",
    "recovered updates",
    "rounds without everybody",
    "rows dropped",
    "rows replaced",
    "stops",
    "worker crashes",
    "workers seen off",
)


def violations(planted: Planted) -> Iterator[tuple[int, Violation]]:
    for seed in range(CAUGHT_WITHIN):
        try:
            simulate(seed, weathers=[planted.weather], cast=planted.cast)
        except Violation as exc:
            yield seed, exc


def test_every_claim_holds_in_every_seed_and_everything_that_can_break_does() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        counts.update(simulate(seed))
    assert [what for what in HAPPENS if not counts[what]] == []


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_caught(fault: str) -> None:
    planted = PLANTED[fault]
    assert planted.breaks in (found.claim for _, found in violations(planted))


def test_a_seed_plays_the_same_again() -> None:
    for seed in range(10):
        first, second = list[str](), list[str]()
        simulate(seed, tell=first.append)
        simulate(seed, tell=second.append)
        assert first == second
        assert len(first) > 20


def test_a_violation_shows_what_came_before_and_happens_again() -> None:
    planted = PLANTED["skips the folder's fsync"]
    seed, found = next(violations(planted))
    lines = str(found).splitlines()
    assert lines[1].startswith(f"seed {seed}, Plan(")
    assert len(lines) == TRACED + 3
    with pytest.raises(Violation) as again:
        simulate(seed, weathers=[planted.weather], cast=planted.cast)
    assert str(again.value) == str(found)


def test_from_the_command_line_seeds_are_counted_and_one_is_shown() -> None:
    played = CliRunner().invoke(main, ["--seeds", "3", "--weather", WEATHERS[0].name])
    assert played.exit_code == 0
    assert "3 seeds in" in played.output
    shown = CliRunner().invoke(main, ["--first", "5", "--replay"])
    assert shown.exit_code == 0
    assert "coordinator  starts" in shown.output


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
