"""A page beside a real coordinator: what it shows of it, and that it never outlives it."""

import contextlib
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fednet.commands.processes import free_port
from tests.integration.site import join, make_site, running, start, wait_for

pytestmark = pytest.mark.timeout(300)
WITHIN_S = 60.0


def page_of(site: Path) -> str:
    wait_for(site, "coordinator", "dashboard: http://")
    found = re.findall(r"dashboard: (http://\S+)", (site / "coordinator.log").read_text())
    return str(found[-1])


def is_gone(url: str) -> bool:
    give_up_s = time.monotonic() + WITHIN_S
    while time.monotonic() < give_up_s:
        try:
            httpx.get(f"{url}api/verdicts", timeout=5)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:  # it is leaving
            pass
        time.sleep(0.1)
    return False


def test_a_page_shows_the_run_as_it_goes_on_and_ends_with_it(tmp_path: Path) -> None:
    site, port = make_site(tmp_path), free_port()
    with contextlib.ExitStack() as stack:
        command = start(site, port, "seen", "--rounds", 3, "--local-epochs", 50, "--dashboard", "127.0.0.1:0")
        coordinator = stack.enter_context(running(site, "coordinator", *command))
        url = page_of(site)
        stream = stack.enter_context(httpx.stream("GET", f"{url}events", timeout=WITHIN_S))
        for number in (1, 2, 3):
            stack.enter_context(running(site, f"worker{number}", *join(port, number)))
        told: list[dict[str, Any]] = []
        with contextlib.suppress(httpx.TransportError):  # it ends with the run
            for line in stream.iter_lines():
                if line.startswith("data: ") and "error" not in (event := json.loads(line.removeprefix("data: "))):
                    told.append(event)
        assert coordinator.wait(120) == 0, (site / "coordinator.log").read_text()
        assert is_gone(url)
    assert {0, 1} <= {each["rounds_done"] for each in told}, "without asking again"
    workers = [each for event in told for each in event["workers"] if each["connected"]]
    assert {each["name"] for each in workers} == {"client1", "client2", "client3"}
    now = datetime.now(UTC)
    assert all(now - timedelta(minutes=5) < datetime.fromisoformat(each["last_seen"]) <= now for each in workers)
    assert all(datetime.fromisoformat(each["certificate_expires"]) > now for each in workers)
    assert max(each["bytes"] for each in workers) > 10_000


def test_a_coordinator_that_is_killed_takes_its_page_along(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with running(site, "coordinator", *start(site, free_port(), "killed", "--dashboard", "127.0.0.1:0")) as coordinator:
        url = page_of(site)
        wait_for(site, "coordinator", "listening on")
        coordinator.kill()
        coordinator.wait()
        assert is_gone(url)


def test_a_page_for_others_has_the_certificate_that_the_run_makes(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    for name in ("first.example", "second.example"):
        options = ("--dashboard", "0.0.0.0:0", "--public-host", name)
        with running(site, name, *start(site, free_port(), name, *options)) as coordinator:
            wait_for(site, name, "listening on")
            wait_for(site, name, "dashboard: https://")
            coordinator.terminate()
            coordinator.wait(60)
        kept = f"runs/{name}/dashboard.token"
        said = (site / f"{name}.log").read_text()
        assert re.search(rf"dashboard: https://{name}:\d+/; its token: {kept}", said), said
        assert (site / kept).read_text().strip() not in said


def test_a_run_goes_on_without_a_page_that_cannot_be(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with running(
        site, "coordinator", *start(site, free_port(), "alone", "--dashboard", "192.0.2.1:0", "--certs", "certs")
    ) as coordinator:
        wait_for(site, "coordinator", "Warning: no dashboard: --listen 192.0.2.1:0; found ")
        wait_for(site, "coordinator", "listening on")
        coordinator.terminate()
        coordinator.wait(60)
