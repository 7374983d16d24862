"""A federation of real processes, one of them malicious, watched in a browser from before its first round."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from fednet.commands.processes import free_port
from tests.browser.browsing import Watched, served, watched
from tests.integration.site import RUN, cli, join, running

pytestmark = pytest.mark.timeout(600)
_WORKERS = 5
_ROUNDS = 4
_ATTACKER = "client5"


def test_the_page_follows_a_run_and_shows_who_is_rejected_and_why(tmp_path: Path, browser: Browser) -> None:
    split = cli(
        tmp_path,
        *("split", "--phantoms", "--phantom-images", 240, "--phantom-size", 32, "--clients", _WORKERS, "--root", 20),
    )
    assert split.returncode == 0, split.stderr
    port = free_port()
    run = tmp_path / "runs" / "watched"
    run.mkdir(parents=True)
    start = ["coordinator", "start", "--port", port, "--run-dir", run, "--workers", _WORKERS, *RUN]
    with contextlib.ExitStack() as stack:
        url, _ = stack.enter_context(served(run, "--wait"))
        coordinator = stack.enter_context(
            running(tmp_path, "watched", *start, "--rounds", _ROUNDS, "--local-epochs", 20, "--aggregator", "multikrum")
        )
        page = stack.enter_context(watched(browser))
        page.page.goto(url)
        page.wait("document.getElementById('title').textContent.startsWith('Waiting for workers')")
        page.page.evaluate("window.sameDocument = true")
        for number in range(1, _WORKERS + 1):
            attack = ("--attack", "sign-flip") if number == _WORKERS else ()
            stack.enter_context(running(tmp_path, f"worker{number}", *join(port, number, *attack)))
        seen = _rounds_seen(page)
        assert coordinator.wait(60) == 0, (tmp_path / "watched.log").read_text()
        page.wait("document.getElementById('title').textContent.startsWith('Finished')")
        assert page.page.evaluate("window.sameDocument"), "the page was loaded again"
        assert len(seen) > 2, seen
        assert seen[-1] == _ROUNDS
        _check_verdicts(page, run)
        page.complaints = [each for each in page.complaints if "404" not in each]  # before the run had begun
        assert not page.complaints
        assert page.asked
        assert not [each for each in page.asked if not each.startswith(url)]


def _rounds_seen(page: Watched) -> list[int]:
    """Return how many rounds the page showed, as long as the run lasted."""
    seen = [0]
    while seen[-1] < _ROUNDS:
        page.wait(f"Number(document.body.dataset.rounds) > {seen[-1]}", within_s=240)
        seen.append(int(page.page.evaluate("document.body.dataset.rounds")))
    return seen


def _check_verdicts(page: Watched, run: Path) -> None:
    history = json.loads((run / "history.json").read_text())
    assert _ATTACKER in page.text("#rejected")
    for document in history["rounds"]:
        update = next(each for each in document["updates"] if each["worker"] == _ATTACKER)
        assert not update["selected"]
        page.page.click(f"[aria-label='{_ATTACKER}, round {document['round']}: rejected']")
        page.wait(f"document.getElementById('detail-title').textContent === '{_ATTACKER}, round {document['round']}'")
        assert page.text("#detail-reason").lower() == update["reason"].lower()
