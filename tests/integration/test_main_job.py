"""The main job as people run it: real processes, real TLS, on loopback."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fednet.commands.processes import free_port
from tests.integration.processes import PROGRAM
from tests.integration.site import MODEL, cli, finish, join, make_site, running, start, wait_for

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a split of phantoms for three hospitals."""
    return make_site(tmp_path_factory.mktemp("site"))


def test_two_commands_train_a_model_that_can_be_evaluated(site: Path) -> None:
    history = finish(site, free_port(), "plain", "--rounds", 2)
    rounds = history["rounds"]
    assert len(rounds) == 2
    judged = cli(site, "evaluate", "--model", "runs/plain/final.pth", "--data", "server_data/test", "--json")
    assert json.loads(judged.stdout)["accuracy"] == rounds[-1]["test"]["accuracy"]
    for number in (1, 2, 3):
        own = cli(site, "evaluate", "--model", f"client_{number}.pth", "--data", "server_data/test", "--json")
        assert own.returncode == 0, own.stderr
    assert not list((site / "certs").glob("loopback-*")), "the loopback token must go with its coordinator"
    assert "Traceback" not in "".join(log.read_text() for log in site.glob("*.log"))


def test_a_coordinator_with_a_root_of_trust_lets_rules_compete(site: Path) -> None:
    history = finish(site, free_port(), "trusted", "--rounds", 1, "--aggregator", "tournament")
    assert "won the tournament; losses on the root scans" in history["rounds"][0]["aggregation"]["note"]


def test_two_coordinator_processes_aggregate_as_one_would(site: Path) -> None:
    port = free_port()
    whole = finish(site, port, "one", "--rounds", 1, "--aggregator", "tournament")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(PROGRAM), *map(str, start(site, port, "two", "--rounds", 1))]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((site / "two.log").open("wb"))
        process = subprocess.Popen([*command, "--aggregator", "tournament"], cwd=site, stdout=log, stderr=log)
        stack.callback(process.kill)
        for number in (1, 2, 3):
            stack.enter_context(running(site, f"two-{number}", *join(port, number)))
        assert process.wait(120) == 0, (site / "two.log").read_text()
    shared = json.loads((site / "runs" / "two" / "history.json").read_text())
    assert shared["rounds"][0]["test"]["accuracy"] == pytest.approx(whole["rounds"][0]["test"]["accuracy"], abs=0.05)
    notes = [each["rounds"][0]["aggregation"]["note"].split(" won")[0] for each in (whole, shared)]
    assert notes[0] == notes[1]


def test_a_rule_without_its_root_of_trust_is_refused(site: Path, tmp_path: Path) -> None:
    (tmp_path / "validation").symlink_to(site / "server_data" / "validation")
    (tmp_path / "test").symlink_to(site / "server_data" / "test")
    refused = cli(site, *start(site, free_port(), "untrusted", "--aggregator", "fltrust", "--data", tmp_path))
    assert refused.returncode == 2
    assert "split --root 160" in refused.stderr
    assert not (site / "runs" / "untrusted").exists()


def test_a_killed_coordinator_resumes_and_gives_the_same_model_bit_for_bit(site: Path) -> None:
    port = free_port()
    whole = finish(site, port, "whole", "--rounds", 3)
    workers = contextlib.ExitStack()
    with workers:
        with running(site, "cut", *start(site, port, "cut", "--rounds", 3)) as coordinator:
            for number in (1, 2, 3):
                workers.enter_context(running(site, f"cut-{number}", *join(port, number)))
            wait_for(site, "cut", "\n1 | ")
            coordinator.kill()
        again = ["coordinator", "start", "--port", port, "--run-dir", "runs/cut", "--workers", 3, *MODEL, "--resume"]
        with running(site, "cut", *again) as coordinator:  # how it learns, and how long, is what the run began with
            assert coordinator.wait(120) == 0, (site / "cut.log").read_text()
    resumed = json.loads((site / "runs" / "cut" / "history.json").read_text())
    digests = [[each["model_sha256"] for each in history["rounds"]] for history in (whole, resumed)]
    assert digests[0] == digests[1]


def test_a_killed_worker_comes_back_and_the_run_goes_on(site: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        coordinator = stack.enter_context(
            running(site, "lost", *start(site, port, "lost", "--rounds", 2, "--local-epochs", 50))
        )
        judging = ["--hold-out", 0.5, "--share-evaluation"]
        victim = stack.enter_context(running(site, "lost-1", *join(port, 1, *judging)))
        for number in (2, 3):
            stack.enter_context(running(site, f"lost-{number}", *join(port, number)))
        wait_for(site, "lost-1", "round 1: the model it begins with")  # and now it trains
        victim.kill()
        victim.wait()
        stack.enter_context(running(site, "lost-1", *join(port, 1, *judging)))
        assert coordinator.wait(120) == 0, (site / "lost.log").read_text()
    history = json.loads((site / "runs" / "lost" / "history.json").read_text())
    assert [len(each["updates"]) for each in history["rounds"]] == [3, 3]
    assert [list(each["site_evaluation"]) for each in history["rounds"]] == [["client1"]] * 2
    chosen = [line for line in (site / "lost-1.log").read_text().splitlines() if "are held out" in line]
    assert len(chosen) == 2 and chosen[0] == chosen[1], "the same after a restart"


def test_hostile_peers_are_dropped_by_name_while_a_run_goes_on(site: Path) -> None:
    port = free_port()
    hostile = [b"GET / HTTP/1.1\r\n\r\n", bytes(5000), b"FN\x02\x01" + bytes(50), b""]
    with contextlib.ExitStack() as stack:
        coordinator = stack.enter_context(running(site, "siege", *start(site, port, "siege", "--rounds", 2)))
        wait_for(site, "siege", "listening on")
        sockets = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in hostile]
        for each, data in zip(sockets, hostile, strict=True):
            each.sendall(data)
        for number in (1, 2):
            stack.enter_context(running(site, f"siege-{number}", *join(port, number)))
        wait_for(site, "siege", "no TLS handshake within 5 s")  # two rounds may be over before
        stack.enter_context(running(site, "siege-3", *join(port, 3)))
        assert coordinator.wait(120) == 0, (site / "siege.log").read_text()
    log = (site / "siege.log").read_text()
    assert log.count("dropped: ") >= len(hostile)
    assert "no TLS handshake within 5 s" in log
    assert len(json.loads((site / "runs" / "siege" / "history.json").read_text())["rounds"]) == 2


def test_ctrl_c_parks_the_coordinator_and_lets_a_worker_leave(site: Path) -> None:
    port = free_port()
    with (
        running(site, "stop", *start(site, port, "stop")) as coordinator,
        running(site, "stop-1", *join(port, 1)) as worker,
    ):
        wait_for(site, "stop-1", "joined as client1")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 130
        coordinator.send_signal(signal.SIGINT)
        assert coordinator.wait(20) == 1
    assert "left the run" in (site / "stop-1.log").read_text()
    last = (site / "stop.log").read_text().splitlines()[-1]
    assert last.startswith("Error: run parked: stopped by SIGINT") and "--resume" in last


def test_a_token_lets_one_worker_in_once(site: Path, tmp_path: Path) -> None:
    port = free_port()
    with running(site, "token", *start(site, port, "token")):
        wait_for(site, "token", "listening on")
        token = cli(site, "certs", "token", "client1", "--port", port).stdout.strip()
        elsewhere = ["--certs", tmp_path / "hospital", "--token", token]
        with running(site, "token-1", *join(port, 1, *elsewhere)):
            wait_for(site, "token-1", "joined as client1")
        used = cli(site, *join(port, 1, "--certs", tmp_path / "other", "--token", token))
        wrong_name = cli(site, *join(port, 2, "--id", 2, "--certs", tmp_path / "third", "--token", token))
        cut_short = cli(site, *join(port, 1, "--certs", tmp_path / "fourth", "--token", token[:-7]))
    for refused, words in ((used, "used already"), (wrong_name, "not for client2"), (cut_short, "cut short")):
        assert refused.returncode == 2, refused
        assert words in refused.stderr.splitlines()[-1]
    key = tmp_path / "hospital" / "workers" / "client1" / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_worker_of_another_authority_is_told_what_to_do(site: Path, tmp_path: Path) -> None:
    port = free_port()
    other = tmp_path / "other"
    other.mkdir()
    with running(site, "first", *start(site, port, "first")):
        wait_for(site, "first", "listening on")
        token = cli(site, "certs", "token", "client1", "--port", port).stdout.strip()
        with running(site, "first-1", *join(port, 1, "--certs", tmp_path / "hospital", "--token", token)):
            wait_for(site, "first-1", "joined as client1")
    with running(site, "second", *start(site, port, "second", "--certs", other / "certs")):
        wait_for(site, "second", "listening on")
        refused = cli(site, *join(port, 1, "--certs", tmp_path / "hospital"))
    assert refused.returncode == 2
    assert "another authority" in refused.stderr and "--token" in refused.stderr


def limited(folder: Path, kib: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command that may write no file larger than `kib` KiB: what a full disk looks like to it."""
    command = f"ulimit -f {kib}; trap '' XFSZ; exec \"$@\""
    full = ["bash", "-c", command, "bash", sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.run(full, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_a_full_disk_is_one_line_and_keeps_what_was_there(site: Path) -> None:
    stopped = limited(site, 100, *start(site, free_port(), "full"))
    assert stopped.returncode == 1
    assert "no room left" in stopped.stderr.splitlines()[-1]
    assert not list((site / "runs" / "full" / "checkpoints").glob("*.pth"))


def test_bad_input_is_one_line_and_exit_code_2(site: Path, tmp_path: Path) -> None:
    port = free_port()
    assert finish(site, port, "done", "--rounds", 1)
    with running(site, "holder", *start(site, port, "holder")):
        wait_for(site, "holder", "listening on")
        cases = {
            "no such folder": join(port, 9),
            "in use": start(site, port, "busy"),
            "--resume": start(site, free_port(), "done"),
            "model: resnet18, not small-cnn": [
                *start(site, free_port(), "done", "--resume", "--rounds", 2),
                "--model",
                "resnet18",
            ],
            "no run there to resume": start(site, free_port(), "nothing", "--resume"),
            "at least 5 workers: the condition of tournament": start(site, free_port(), "f", "--byzantine", 1),
            "multikrum, krum, fedavg": start(site, free_port(), "rule", "--aggregator", "magic"),
            "agreed to resnet18 only": join(port, 1, "--model", "resnet18"),
        }
        for words, arguments in cases.items():
            ran = cli(site, *arguments)
            assert ran.returncode == 2, (words, ran)
            assert words in ran.stderr.splitlines()[-1], ran
            assert "Traceback" not in ran.stderr
    assert not any((site / "runs" / name).exists() for name in ("nothing", "f", "rule"))


def test_the_demo_shows_the_attacker_rejected_and_averaging_fail(tmp_path: Path) -> None:
    small = ["--rounds", 1, "--workers", 5, "--image-size", 32, "--local-epochs", 1]
    ran = cli(tmp_path, "demo", *small, "--dashboard", "0.0.0.0:0", "--json", wait_s=300)
    assert ran.returncode == 0, ran.stderr
    assert "dashboard: https://localhost:" in ran.stderr  # its certificate was there before the run
    summary = json.loads(ran.stdout)
    assert list(summary["rejected"]["multikrum"]["1"]) == ["client5"]
    assert summary["rejected"]["fedavg"]["1"] == {}
    assert (tmp_path / summary["folder"]).is_dir()
