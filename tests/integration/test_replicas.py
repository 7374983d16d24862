"""A hospital with two processes as `torchrun` starts them, and what happens when one of them is killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fednet.commands.processes import free_port
from fednet.reporting.status import live_status
from tests.integration.site import ROOT, cli, join, make_site, running, start, wait_for

pytestmark = pytest.mark.timeout(300)

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
GONE = "another of this worker's 2 processes is gone"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a split of phantoms for three hospitals."""
    return make_site(tmp_path_factory.mktemp("replicas"))


def process_of(launcher: int, rank: int) -> int:
    """Return the process that `torchrun` has started for a rank."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


def wait_for_training(run: Path, *, round_number: int) -> None:
    """Wait until the coordinator says that all its workers have the round's model."""
    deadline = time.monotonic() + 120
    while True:
        status = live_status(run)
        if status is not None and status["round"] == round_number and status["phase"] == "collecting":
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.05)


def test_a_killed_process_costs_a_hospital_its_round_and_it_joins_again(site: Path) -> None:
    port = free_port()
    serve = start(site, port, "two", "--rounds", 2, "--local-epochs", 2, "--workers", 1, "--aggregator", "fedavg")
    serve += ["--model", "resnet18-gn", "--batch-size", 15]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((site / "two-1.log").open("wb"))
        command = [*TORCHRUN, "--max-restarts", "2", str(ROOT / "cli.py"), *map(str, join(port, 1))]
        worker = subprocess.Popen(command, cwd=site, stdout=log, stderr=log)
        stack.callback(worker.terminate)  # not kill: it would leave its processes behind
        wait_for(site, "two-1", ", in 2 processes")
        os.kill(process_of(worker.pid, 1), signal.SIGKILL)  # the first process hears of it from torchrun alone
        coordinator = stack.enter_context(running(site, "two", *serve))
        wait_for(site, "two-1", "round 1: the update arrived")
        assert (site / "two-1.log").read_text().count(GONE) == 1
        other = process_of(worker.pid, 1)
        os.kill(other, signal.SIGSTOP)  # the first process gets no further than into the training of round 2
        wait_for_training(site / "runs" / "two", round_number=2)
        os.kill(other, signal.SIGKILL)
        assert worker.wait(200) == 0, (site / "two-1.log").read_text()
        assert coordinator.wait(120) == 0, (site / "two.log").read_text()
    said = (site / "two-1.log").read_text()
    assert said.count(", in 2 processes") == 3
    assert said.count(GONE) == 2  # noticed in the training, or torchrun was first
    assert "Traceback" not in said
    assert (site / "client_1.pth").exists()
    assert len(json.loads((site / "runs" / "two" / "history.json").read_text())["rounds"]) == 2
    verified = cli(site, "runs", "verify", "runs/two", "--worker-log", "client_1.audit.jsonl")
    assert verified.returncode == 0, verified.stdout + verified.stderr
