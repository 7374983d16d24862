"""Reports of a real run: while it goes on, when it has ended, and of a hospital."""

import contextlib
import json
import time
from pathlib import Path

import pytest

from fednet.commands.processes import free_port
from tests.integration.site import cli, join, make_site, running, start


@pytest.mark.timeout(300)
def test_a_run_and_its_hospitals_leave_pages_and_the_run_still_verifies(tmp_path: Path) -> None:
    site, port = make_site(tmp_path), free_port()
    page = site / "runs" / "seen" / "report.html"
    with contextlib.ExitStack() as stack:
        options = ("--rounds", 3, "--report-each-round")
        coordinator = stack.enter_context(running(site, "seen", *start(site, port, "seen", *options)))
        for number in (1, 2, 3):
            stack.enter_context(running(site, f"seen-{number}", *join(port, number)))
        deadline = time.monotonic() + 120
        pages = set()
        while coordinator.poll() is None and time.monotonic() < deadline:
            if page.exists():
                pages.add(page.read_text())
            time.sleep(0.05)
        assert coordinator.wait(5) == 0, (site / "seen.log").read_text()
    log = (site / "seen.log").read_text()
    assert any("Running" in each for each in pages), log
    assert "to look at and to mail: runs/seen/report.html" in log and "no report" not in log
    text = page.read_text()
    assert "Finished" in text and "not a byte changed since the run was sealed" in text
    verified = cli(site, "runs", "verify", "seen", "--json")
    assert verified.returncode == 0 and json.loads(verified.stdout)["ok"]
    assert cli(site, "worker", "report", "--id", 1).returncode == 0
    assert "3 updates of 1 run have left this hospital" in (site / "client_1.report.html").read_text()
