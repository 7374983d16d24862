"""What people and machines see of a run: nothing when asked for quiet, and curves that a resumed run goes on with."""

import contextlib
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fednet.commands.processes import free_port
from tests.integration.site import cli, join, make_site, running, start

pytestmark = pytest.mark.timeout(300)


EVEN = ["--lr-schedule", "constant"]  # else more rounds make the rate leap, of which a quiet run warns too


def test_a_quiet_run_says_nothing_and_its_curves_go_on_at_resume(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    for rounds, more in ((1, []), (2, ["--resume"])):
        with contextlib.ExitStack() as stack:
            port = free_port()
            command = start(site, port, "quiet", "--rounds", rounds, "--quiet", "--tensorboard", *EVEN, *more)
            coordinator = stack.enter_context(running(site, "coordinator", *command))
            workers = [
                stack.enter_context(running(site, f"worker{number}", *join(port, number, "--quiet")))
                for number in (1, 2, 3)
            ]
            assert coordinator.wait(120) == 0, (site / "coordinator.log").read_text()
            assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    assert {log.read_text() for log in site.glob("*.log")} == {""}
    (curves,) = (site / "runs" / "quiet" / "tensorboard").iterdir()
    events = EventAccumulator(str(curves))
    events.Reload()
    assert [event.step for event in events.Scalars("test/accuracy")] == [1, 2]
    assert cli(site, "runs", "verify", "runs/quiet", "--certs", "certs").returncode == 0
    failed = cli(site, *start(site, free_port(), "quiet", "--quiet"))
    assert failed.returncode == 2
    assert failed.stderr.startswith("Error: runs/quiet; found a run is there already")
