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
from tests.integration.processes import PROGRAM
from tests.integration.site import cli, join, make_site, running, start, wait_for

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


def unread_by(process: int) -> int:
    """Return how many bytes lie unread in the TCP connections of a process."""
    own = {str(entry.readlink()) for entry in Path(f"/proc/{process}/fd").iterdir()}
    connections = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return sum(int(each[4].split(":")[1], 16) for each in connections if f"socket:[{each[9]}]" in own)


def wait_for_training(stopped: int) -> None:
    """Wait until the first process has begun a training, of which it has told the one that stands still."""
    deadline = time.monotonic() + 120
    while not unread_by(stopped):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_process_costs_a_hospital_its_round_and_it_joins_again(site: Path) -> None:
    port = free_port()
    serve = start(site, port, "two", "--rounds", 2, "--local-epochs", 2, "--workers", 1, "--aggregator", "fedavg")
    serve += ["--model", "resnet18-gn", "--batch-size", 15]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((site / "two-1.log").open("wb"))
        command = [*TORCHRUN, "--max-restarts", "2", str(PROGRAM), *map(str, join(port, 1))]
        worker = subprocess.Popen(command, cwd=site, stdout=log, stderr=log)
        stack.callback(worker.terminate)  # not kill: it would leave its processes behind
        wait_for(site, "two-1", ", in 2 processes")
        os.kill(process_of(worker.pid, 1), signal.SIGKILL)  # the first process hears of it from torchrun alone
        coordinator = stack.enter_context(running(site, "two", *serve))
        wait_for(site, "two-1", "round 1: the update arrived")
        assert (site / "two-1.log").read_text().count(GONE) == 1
        other = process_of(worker.pid, 1)
        os.kill(other, signal.SIGSTOP)  # the first process gets no further than into the training of round 2
        wait_for_training(other)
        os.kill(other, signal.SIGKILL)
        assert worker.wait(200) == 0, (site / "two-1.log").read_text()
        assert coordinator.wait(120) == 0, (site / "two.log").read_text()
    said = (site / "two-1.log").read_text()
    assert said.count(", in 2 processes") == 3
    assert said.count(GONE) == 2
    assert said.count(f"torchrun has ended this process: {GONE}") == said.count(f"Error: {GONE}") == 1
    assert "Traceback" not in said
    assert (site / "client_1.pth").exists()
    assert len(json.loads((site / "runs" / "two" / "history.json").read_text())["rounds"]) == 2
    verified = cli(site, "runs", "verify", "runs/two", "--worker-log", "client_1.audit.jsonl")
    assert verified.returncode == 0, verified.stdout + verified.stderr
