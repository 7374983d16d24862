"""Reports of a real run: while it goes on, when it is stopped, when it has ended; and of a hospital."""

import contextlib
import json
import signal
import time
from pathlib import Path

import pytest

from fednet.commands.processes import free_port
from tests.integration.site import cli, join, make_site, running, start

_WITHIN_S = 120.0


@pytest.mark.timeout(300)
def test_a_run_and_its_hospitals_leave_pages_and_the_run_still_verifies(tmp_path: Path) -> None:
    site, port = make_site(tmp_path), free_port()
    page = site / "runs" / "seen" / "report.html"
    serve = [*start(site, port, "seen", "--aggregator", "fedavg"), "--report-each-round"]
    with contextlib.ExitStack() as workers:
        with running(site, "seen", *serve, "--rounds", 1000) as coordinator:
            for number in (1, 2, 3):
                workers.enter_context(running(site, f"seen-{number}", *join(port, number)))
            deadline = time.monotonic() + _WITHIN_S
            while not page.exists():
                assert time.monotonic() < deadline and coordinator.poll() is None, (site / "seen.log").read_text()
                time.sleep(0.05)
            assert "Running" in page.read_text()
            coordinator.send_signal(signal.SIGTERM)
            assert coordinator.wait(_WITHIN_S) == 1
        assert "Stopped after" in page.read_text() and "stopped by SIGTERM" in page.read_text()
        done = json.loads(cli(site, "runs", "show", "seen", "--json").stdout)["rounds_done"]
        with running(site, "seen", *serve, "--resume", "--rounds", done + 1) as coordinator:
            assert coordinator.wait(_WITHIN_S) == 0, (site / "seen.log").read_text()
    log = (site / "seen.log").read_text()
    assert "to look at and to mail: runs/seen/report.html" in log and "no report" not in log
    text = page.read_text()
    assert "Finished" in text and "not a byte changed since the run was sealed" in text
    verified = cli(site, "runs", "verify", "seen", "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout)["ok"]
    assert cli(site, "worker", "report", "--id", 1).returncode == 0
    assert "have left this hospital" in (site / "client_1.report.html").read_text()
