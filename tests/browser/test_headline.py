"""What the page says at its top, of runs in every condition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from fednet.bench.pretended import PretendedRun, names
from tests.browser.browsing import Watched, served, watched

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    run = PretendedRun(tmp_path_factory.mktemp("pages") / "run", workers=names(5), attackers=["client5"], rounds=9)
    for number in range(1, 4):
        run.commit(number)
    run.show_status(4, 0.5)
    with served(run.folder) as (url, _), watched(browser) as found:
        found.open(url)
        yield found
    run.close()


def said(page: Watched, changes: dict[str, Any]) -> dict[str, str]:
    """Return what would be said if these parts of the overview were others; `accuracy` is a series."""
    found: dict[str, str] = page.page.evaluate(
        """async (changes) => {
            const { headline } = await import("/static/headline.js");
            const run = await (await fetch("/api/run")).json();
            if (changes.accuracy) run.series.accuracy = changes.accuracy;
            return headline({ ...run, ...changes });
        }""",
        changes,
    )
    return found


def test_a_rule_that_takes_few_makes_nobody_a_culprit(page: Watched) -> None:
    found = page.page.evaluate(
        """async () => {
            const { rejectedSentence } = await import("/static/headline.js");
            const run = await (await fetch("/api/run")).json();
            const left = [{ name: "client1" }, { name: "client5" }];
            const krum = { ...run, recipe: "krum", takes_few: true };
            const said = [[run, left], [krum, left], [krum, []]].map((each) => rejectedSentence(...each));
            return [run.takes_few, ...said];
        }"""
    )
    assert found == [
        False,
        "Rejected in the last round: client1, client5.",
        "krum counts few updates a round: the 2 it left out may be honest.",
        "Nobody was rejected in the last round.",
    ]


@pytest.mark.parametrize(
    ("changes", "tone", "title"),
    [
        ({}, "good", "Healthy: accuracy "),
        ({"accuracy": [0.5, 0.8, 0.65]}, "warn", "Accuracy has fallen: 65.0 % after round 3 of 9, the best was 80.0 %"),
        ({"accuracy": [0.25, 0.24, 0.26]}, "warn", "Not learning: accuracy 26.0 % after round 3 of 9"),
        ({"accuracy": [None, None, None]}, "info", "Running: round 3 of 9 done"),
        ({"stalled_s": 42.0}, "bad", "Stalled: no sign of life from the coordinator for 42 s"),
        ({"standing": "stopped", "ending": "failed: disk full"}, "bad", "Stopped: accuracy "),
        (
            {"standing": "stopped", "ending": "killed", "rounds_done": 0},
            "bad",
            "Stopped before its first round was over",
        ),
        ({"standing": "finished"}, "good", "Finished: accuracy "),
        ({"standing": "finished", "accuracy": [0.2, 0.25, 0.25]}, "warn", "Finished: accuracy 25.0 % after round 3"),
        ({"rounds_done": 0}, "info", "Running: the first round is under way"),
        ({"rounds_done": 0, "live": None}, "info", "Running: the first round is under way"),
    ],
)
def test_the_headline_says_how_the_run_stands(page: Watched, changes: dict[str, Any], tone: str, title: str) -> None:
    found = said(page, changes)
    assert found["tone"] == tone
    assert found["title"].replace("\u00a0", " ").startswith(title)


def test_waiting_names_how_many_are_there(page: Watched) -> None:
    live = {"phase": "waiting", "round": 1, "text": "", "workers_connected": 2, "workers_total": 5}
    found = said(page, {"rounds_done": 0, "live": live})
    assert found["title"] == "Waiting for workers: 2 of 5 connected"
    assert found["detail"] == "Round 1: waiting for workers."
