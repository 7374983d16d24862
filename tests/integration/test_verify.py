"""`runs verify` of runs that real processes made: finished, resumed for more rounds, killed, judged by own scans."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from fednet.commands.processes import free_port
from tests.integration.site import cli, finish, join, make_site, running, start, wait_for

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a split of phantoms for three hospitals."""
    return make_site(tmp_path_factory.mktemp("site"))


def verified(folder: Path, run: str, *options: object) -> dict[str, Any]:
    """Return what `runs verify` says of a run that is as it was signed."""
    ran = cli(folder, "runs", "verify", run, "--json", *options)
    assert ran.returncode == 0, ran
    checked: dict[str, Any] = json.loads(ran.stdout)["checked"]
    return checked


def test_a_run_is_as_its_coordinator_signed_it_and_so_it_is_after_more_rounds(site: Path) -> None:
    kept = ["--keep-updates", "--compress", "zstd", "--aggregator", "fedavg"]
    finish(site, free_port(), "kept", "--rounds", 2, *kept)
    checked = verified(site, "kept", "--replay", "--worker-log", "client_2.audit.jsonl")
    assert (checked["records"], checked["replayed"], checked["acknowledged"]) == (3, [1, 2], 2)
    scan = next((site / "server_data" / "test").rglob("*.png"))
    asked = json.loads(cli(site, "predict", "--model", "runs/kept/final.pth", scan, "--json").stdout)
    assert asked["calibrated"], "a finished run leaves a calibrated model, and its card"
    assert f"- temperature: {asked['temperature']:.4g} " in cli(site, "runs", "card", "kept").stdout
    port = free_port()
    refused = cli(site, *start(site, port, "kept", "--resume", "--seed", 9, "--rounds", 3, *kept))
    assert refused.returncode == 2
    assert verified(site, "kept")["sealed"] == checked["sealed"], "what was refused has changed nothing"
    finish(site, port, "kept", "--resume", "--rounds", 3, *kept)
    checked = verified(site, "kept", "--replay", "--worker-log", "client_2.audit.jsonl")
    assert (checked["records"], checked["replayed"], checked["acknowledged"]) == (4, [1, 2, 3], 3)


def test_a_killed_run_is_verified_as_far_as_it_goes_and_sealed_when_it_has_finished(site: Path) -> None:
    port = free_port()
    endless = start(site, port, "killed", "--rounds", 1000, "--aggregator", "fedavg")
    with contextlib.ExitStack() as workers:
        with running(site, "killed", *endless) as coordinator:
            for number in (1, 2, 3):
                workers.enter_context(running(site, f"killed-{number}", *join(port, number)))
            wait_for(site, "killed", "\n1 | ")
            assert verified(site, "killed")["sealed"] == 0, "while it runs, too"
            coordinator.kill()
        checked = verified(site, "killed")
        assert checked["sealed"] == 0
        one_more = [*endless, "--resume", "--rounds", checked["records"]]
        with running(site, "killed", *one_more) as coordinator:
            assert coordinator.wait(120) == 0, (site / "killed.log").read_text()
    assert verified(site, "killed", "--worker-log", "client_1.audit.jsonl")["sealed"] > 0


def test_a_round_that_a_root_of_trust_decided_is_replayed_with_it(site: Path) -> None:
    finish(site, free_port(), "rooted", "--rounds", 1, "--aggregator", "tournament", "--keep-updates")
    assert verified(site, "rooted", "--replay", "--data", "server_data")["replayed"] == [1]
