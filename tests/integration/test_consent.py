"""Hospitals that decline, as real processes over real TLS: a coordinator, the whole run, each round."""

import contextlib
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fednet.commands.processes import free_port
from tests.integration.site import cli, join, make_site, running, start, wait_for

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a split of phantoms for three hospitals."""
    return make_site(tmp_path_factory.mktemp("site"))


def hours_that_are_not_now() -> str:
    later = [datetime.now() + timedelta(hours=hours) for hours in (6, 8)]
    return f"{later[0]:%H:%M}-{later[1]:%H:%M}"


def status(folder: Path, run: str) -> tuple[str, dict[str, Any]]:
    said = [cli(folder, "coordinator", "status", "--run-dir", f"runs/{run}", *more) for more in ((), ("--json",))]
    return said[0].stdout, json.loads(said[1].stdout)


def test_a_hospital_declines_and_the_others_finish(site: Path) -> None:
    port = free_port()
    (site / "other.toml").write_text(f'[coordinator]\nauthority = "{"ab" * 32}"\n')
    (site / "short.toml").write_text("[training]\nmax_rounds = 1\n")
    (site / "night.toml").write_text(f'[time]\nhours = "{hours_that_are_not_now()}"\n')
    with contextlib.ExitStack() as stack:
        coordinator = stack.enter_context(running(site, "run", *start(site, port, "run", "--rounds", 2)))
        wait_for(site, "run", "waiting for 3 more")
        stranger = cli(site, *join(port, 3, "--consent", "other.toml"))
        assert (stranger.returncode, "coordinator's authority; found SHA-256" in stranger.stderr) == (2, True)
        assert not (site / "certs" / "workers" / "client3" / "cert.pem").exists(), "it has not enrolled"

        careful = cli(site, *join(port, 3, "--consent", "short.toml"))
        assert careful.returncode == 2
        assert careful.stderr.endswith("Error: the run has 2 rounds, at most 1 agreed\n")
        wait_for(site, "run", "client3 declines the run: the run has 2 rounds, at most 1 agreed")
        wait_for(site, "run", "client3 declined: the run has 2 rounds")
        text, found = status(site, "run")
        assert "declined the run: client3: the run has 2 rounds, at most 1 agreed" in text
        assert found["declined"]["run"] == ["client3: the run has 2 rounds, at most 1 agreed"]

        night = stack.enter_context(running(site, "run-3", *join(port, 3, "--consent", "night.toml")))
        for number in (1, 2):
            stack.enter_context(running(site, f"run-{number}", *join(port, number)))
        assert coordinator.wait(120) == 0, (site / "run.log").read_text()
        assert night.wait(60) == 0, "it stays to the end"

    wait_for(site, "run-3", "round 2 declined: it is ")
    assert "client3 declines round 1: it is " in (site / "run.log").read_text()
    for document in json.loads((site / "runs" / "run" / "history.json").read_text())["rounds"]:
        assert [each["worker"] for each in document["updates"]] == ["client1", "client2"]
        assert "training begins only within" in document["declined"]["client3"]
    text, found = status(site, "run")
    assert "client3 declined 2 of 2 rounds, last round 2: it is " in text
    assert found["declined"]["run"] == [], "it has come after all"
    verified = cli(site, "runs", "verify", "run", "--worker-log", "client_1.audit.jsonl")
    assert verified.returncode == 0, verified.stderr

    inspected = json.loads(cli(site, "worker", "inspect", "--id", 1, "--json").stdout)
    (run,) = inspected["runs"]
    assert (inspected["verifies"], inspected["signatures_checked"], len(run["updates"])) == (True, True, 2)
    assert all(each["nbytes"] > 0 and each["is_acknowledged"] for each in run["updates"])
    nothing = json.loads(cli(site, "worker", "inspect", "--id", 3, "--json").stdout)
    assert (nothing["bytes"], nothing["verifies"]) == (0, True), "what declines sends nothing"
