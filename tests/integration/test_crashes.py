"""What a run survives, with real processes: kill -9, a full disk, processes that stand still, a link that is cut."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fednet.commands.processes import free_port
from fednet.protocol import limits
from tests.integration.processes import PROGRAM, Command
from tests.integration.site import RUN, cli, finish, join, make_site, running, start, wait_for

pytestmark = pytest.mark.timeout(400)

LONG_ROUNDS = ["--rounds", 2, "--local-epochs", 50, "--batch-size", 4]
"""Of some seconds: a worker says how far it is once a second, and agrees to no more epochs."""
LONGER_THAN_A_HEARTBEAT_S = limits.DEAD_AFTER_S + 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a split of phantoms for three hospitals."""
    return make_site(tmp_path_factory.mktemp("crashes"))


@pytest.fixture(scope="module")
def undisturbed(site: Path) -> list[str]:
    """The models of two rounds of which nothing came between."""
    return models(finish(site, free_port(), "undisturbed", *LONG_ROUNDS))


def models(history: dict[str, Any]) -> list[str]:
    return [each["model_sha256"] for each in history["rounds"]]


def models_of(folder: Path) -> list[str]:
    return models(json.loads((folder / "history.json").read_text()))


def needs(command: list[str], what: str) -> None:
    """Skip, in words, where this machine does not let us do `command`."""
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"{what} cannot be had here: {tried.stderr.strip()}")


def test_twenty_kills_change_no_bit_and_lose_no_update(tmp_path: Path) -> None:
    ran = cli(tmp_path, "bench", "chaos", "--kills", 20, "--json", wait_s=380)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["identical"] is True
    assert document["complaints"] == []
    assert sum(document["samples"]["kills"].values()) == 20


@contextlib.contextmanager
def small_disk(folder: Path, *, mib: int) -> Iterator[None]:
    """Mount a disk of so many MiB at `folder`."""
    folder.mkdir(parents=True)
    needs(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)], "a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_within_a_round_loses_nothing(site: Path, undisturbed: list[str]) -> None:
    port, folder = free_port(), site / "runs" / "filled"
    with small_disk(folder, mib=24), contextlib.ExitStack() as stack:
        with running(site, "filled", *start(site, port, "filled", *LONG_ROUNDS)) as coordinator:
            for number in (1, 2, 3):
                stack.enter_context(running(site, f"filled-{number}", *join(port, number)))
            wait_for(site, "filled-1", "round 1: training")
            with (folder / "filler").open("wb") as filler, contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(2**16))
                    filler.flush()
            assert coordinator.wait(60) == 1
        said = (site / "filled.log").read_text().splitlines()[-1]
        assert "no room left" in said and "free some disk space" in said.lower(), said
        (folder / "filler").unlink()
        with running(site, "filled", *start(site, port, "filled", *LONG_ROUNDS, "--resume")) as coordinator:
            assert coordinator.wait(120) == 0, (site / "filled.log").read_text()
        assert models_of(folder) == undisturbed


def test_processes_that_stand_still_for_longer_than_a_heartbeat_go_on(site: Path, undisturbed: list[str]) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        options = [*LONG_ROUNDS, "--grace", 120]
        coordinator = stack.enter_context(running(site, "still", *start(site, port, "still", *options)))
        frozen = stack.enter_context(running(site, "still-1", *join(port, 1)))
        for number in (2, 3):
            stack.enter_context(running(site, f"still-{number}", *join(port, number)))
        wait_for(site, "still-1", "round 1: training")
        stand_still(frozen)
        wait_for(site, "still-1", "round 1: the update arrived")
        wait_for(site, "still-2", "round 2: training")
        stand_still(coordinator)
        assert coordinator.wait(120) == 0, (site / "still.log").read_text()
    after = (site / "still-2.log").read_text().split("round 2: training")[1]
    assert "trying again" in after, "whichever side saw it first: the link was given up"
    assert models_of(site / "runs" / "still") == undisturbed


def stand_still(process: Command) -> None:
    """Stop a process for longer than its peers wait for a sign of life."""
    process.send_signal(signal.SIGSTOP)
    time.sleep(LONGER_THAN_A_HEARTBEAT_S)
    process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[str, str]]:
    """Make two network namespaces with a link between them; yield their names. The first one has 10.77.0.1."""
    names = (f"fednet-a-{os.getpid()}", f"fednet-b-{os.getpid()}")
    needs(["ip", "netns", "add", names[0]], "network namespaces")
    try:
        commands = [
            f"netns add {names[1]}",
            f"-n {names[0]} link add centre type veth peer name hospital netns {names[1]}",
            f"-n {names[0]} addr add 10.77.0.1/24 dev centre",
            f"-n {names[1]} addr add 10.77.0.2/24 dev hospital",
            *(f"-n {name} link set lo up" for name in names),
            f"-n {names[0]} link set centre up",
            f"-n {names[1]} link set hospital up",
        ]
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextlib.contextmanager
def running_in(host: str, folder: Path, name: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command on one of the hosts; its output goes to NAME.log."""
    with (folder / f"{name}.log").open("ab") as log:
        command = ["ip", "netns", "exec", host, sys.executable, str(PROGRAM), *map(str, arguments)]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def test_a_link_between_two_hosts_that_is_cut_for_a_while_changes_no_bit(site: Path, undisturbed: list[str]) -> None:
    port = free_port()
    serve = ["coordinator", "start", "--port", port, "--run-dir", "runs/hosts", "--workers", 3, *RUN]
    serve += ["--host", "10.77.0.1", *LONG_ROUNDS, "--grace", 120, "--certs", "centre-certs"]
    with two_hosts() as (centre, hospital), contextlib.ExitStack() as stack:
        coordinator = stack.enter_context(running_in(centre, site, "hosts", *serve))
        wait_for(site, "hosts", "listening on")
        for number in (1, 2, 3):
            asked = cli(site, "certs", "token", f"client{number}", "--port", port, "--certs", "centre-certs")
            more = ["--coordinator", f"10.77.0.1:{port}", "--token", asked.stdout.strip(), "--certs", f"certs-{number}"]
            stack.enter_context(running_in(hospital, site, f"hosts-{number}", *join(port, number, *more)))
        wait_for(site, "hosts-1", "round 1: training")
        subprocess.run(["ip", "-n", centre, "link", "set", "centre", "down"], check=True)
        wait_for(site, "hosts-1", "trying again")
        subprocess.run(["ip", "-n", centre, "link", "set", "centre", "up"], check=True)
        assert coordinator.wait(120) == 0, (site / "hosts.log").read_text()
    assert models_of(site / "runs" / "hosts") == undisturbed


def test_a_run_that_stopped_can_be_seen_and_goes_on(site: Path) -> None:
    port = free_port()
    with running(site, "parked", *start(site, port, "parked", "--log-format", "json")) as coordinator:
        wait_for(site, "parked", "listening on")
        alive = cli(site, "coordinator", "status", "--run-dir", "runs/parked")
        coordinator.send_signal(signal.SIGTERM)
        assert coordinator.wait(20) == 1
    lines = [json.loads(line) for line in (site / "parked.log").read_text().splitlines()[:-1]]
    assert any("listening on" in line["message"] and line["level"] == "info" for line in lines)
    assert alive.returncode in (0, 1), "it may not have said anything yet"
    stopped = cli(site, "coordinator", "status", "--run-dir", "runs/parked", "--json")
    document = json.loads(stopped.stdout)
    assert (stopped.returncode, document["standing"], document["healthy"]) == (1, "stopped", False)
    assert document["ending"].startswith("parked: run parked: stopped by SIGTERM")
