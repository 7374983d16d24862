"""The page of made-up runs: small, large, ended, silent, hostile; by mouse and by keyboard."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route

from fednet.bench.pretended import PretendedRun, names
from tests.browser.browsing import PHONE, served, watched

pytestmark = pytest.mark.timeout(600)
SCRIPT = "<script>window.hacked = 1</script>"
IMAGE = "<img src=x onerror='window.hacked=2'>"


@contextmanager
def pretended(
    folder: Path, *, rounds: int, workers: Sequence[str] = (), attackers: Sequence[str] = (), planned: int = 12
) -> Iterator[PretendedRun]:
    """A run with so many rounds behind it, held as by a coordinator."""
    workers = workers or names(5)
    run = PretendedRun(folder / "run", workers=workers, attackers=attackers or workers[-1:], rounds=planned)
    for number in range(1, rounds + 1):
        run.commit(number)
    run.show_status(rounds + 1, 0.3)
    try:
        yield run
    finally:
        run.close()


def test_who_is_rejected_is_said_at_the_top_and_why_after_a_click(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=3) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        assert "Healthy" in page.text("#title")
        assert page.text("#rejected") == "Rejected in the last round: client5."
        assert "rejected in all 3 rounds" in page.text("#culprits")
        page.page.click("[role=gridcell][aria-label='client5, round 2: rejected']")
        page.wait("!document.getElementById('detail').hidden")
        assert page.text("#detail-title") == "client5, round 2"
        assert "points away from them" in page.text("#detail-reason")
        assert not page.complaints


def test_the_grid_works_by_keyboard(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=3) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        page.page.focus(".grid [tabindex='0']")
        for key in ("Control+Home", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
            page.page.keyboard.press(key)
        page.wait("!document.getElementById('detail').hidden")
        assert page.text("#detail-title") == "client3, round 2"
        assert page.text("#detail-reason") == "Selected: this update counts in the new model."
        page.page.keyboard.press("ArrowUp")
        page.page.keyboard.press("Enter")
        page.wait("document.getElementById('detail-title').textContent.startsWith('client2')")
        page.page.keyboard.press("Escape")
        assert page.page.is_hidden("#detail")


def test_charts_are_read_by_keyboard(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=3) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        assert page.text("#accuracy .readout").startswith("Round 3: test accuracy ")
        page.page.focus("#accuracy .plot")
        page.page.keyboard.press("Home")
        assert page.text("#accuracy .readout").startswith("Round 1: test accuracy ")
        assert page.page.get_attribute("#accuracy .plot", "aria-valuenow") == "1"
        page.page.keyboard.press("Enter")
        page.wait("document.getElementById('round-name').textContent === 'Round 1'")


def test_names_and_reasons_are_shown_as_text(tmp_path: Path, browser: Browser) -> None:
    workers = [SCRIPT, IMAGE, *names(3)]
    with (
        pretended(tmp_path, rounds=2, workers=workers, attackers=[SCRIPT]) as run,
        served(run.folder) as (url, _),
        watched(browser) as page,
    ):
        page.open(url)
        assert SCRIPT in page.text("#rejected")
        assert SCRIPT in page.text("#workers")
        assert IMAGE in page.text("#workers")
        assert SCRIPT in page.text("#verdicts")
        page.page.click(".culprits button")
        page.wait("!document.getElementById('detail').hidden")
        assert page.text("#detail-title") == f"{SCRIPT}, round 2"
        assert page.page.evaluate("window.hacked") is None
        assert page.page.evaluate("document.querySelectorAll('script, img').length") == 2  # the page's own
        assert not page.complaints


def test_an_injected_inline_script_does_not_run(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=1) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        page.page.evaluate(
            """() => {
                window.violations = [];
                const note = (event) => violations.push(event.effectiveDirective);
                document.addEventListener("securitypolicyviolation", note);
                const script = document.createElement("script");
                script.textContent = "window.hacked = 1";
                document.body.append(script);
                const frame = document.createElement("div");
                frame.innerHTML = "<img src=x onerror='window.hacked=2'><p style='color:red'></p>";
                document.body.append(frame);
            }"""
        )
        page.wait("['script-src-elem', 'script-src-attr', 'style-src-attr'].every((each) => violations.includes(each))")
        assert page.page.evaluate("window.hacked") is None


def test_nothing_is_asked_of_another_host(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=2) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        asked = {each.removeprefix(url) for each in page.asked}
        assert not [each for each in page.asked if not each.startswith(url)]
        assert {"", "static/dashboard.js", "api/run", "api/verdicts?after=0", "api/rounds/2", "events"} <= asked


@pytest.mark.parametrize("size", [(1280, 900), PHONE])
def test_a_run_without_rounds_says_what_it_waits_for(tmp_path: Path, browser: Browser, size: tuple[int, int]) -> None:
    with (
        pretended(tmp_path, rounds=0) as run,
        served(run.folder) as (url, _),
        watched(browser, size=size) as page,
    ):
        page.open(url)
        assert page.text("#title") == "Running: the first round is under way"
        assert "Nothing yet" in page.text("#accuracy")
        assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert not page.complaints


def test_one_round_is_a_point_in_each_chart(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=1) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        assert page.page.locator("#accuracy .plot .mark").count() == 3
        assert page.page.locator(".grid [role=gridcell]").count() == 5
        assert not page.complaints


def test_an_older_answer_never_replaces_the_round_asked_for_last(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=3) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        page.page.route("**/api/rounds/1", hold)
        page.page.click("#round")
        page.page.keyboard.press("Home")
        page.wait("document.getElementById('round').value === '1'")
        page.page.keyboard.press("ArrowRight")
        page.wait("document.getElementById('round-name').textContent === 'Round 2'")
        with page.page.expect_response("**/api/rounds/1"):
            held[0].continue_()
        page.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        assert page.text("#round-name") == "Round 2"


def test_a_question_that_fails_is_said_and_does_not_stick(tmp_path: Path, browser: Browser) -> None:
    run = PretendedRun(tmp_path / "run", workers=names(5), attackers=["client5"], rounds=2)
    for number in (1, 2):
        run.commit(number)
    run.close()  # no news comes that would wipe it away
    with served(run.folder) as (url, _), watched(browser) as page:
        page.page.clock.install()
        page.open(url)
        page.page.route("**/api/rounds/1", lambda route: route.abort())
        page.page.click("#earlier")
        page.wait("!document.getElementById('lost').hidden")
        assert page.text("#link-text") == "connected" and page.text("#round-name") == "Round 2, the latest"
        page.page.clock.fast_forward(11_000)
        page.wait("document.getElementById('lost').hidden")


def test_another_run_in_the_folder_is_shown_from_its_beginning(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=2) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        database = sqlite3.connect(run.folder / "run.sqlite", timeout=30)
        with page.page.expect_event("domcontentloaded"), closing(database), database:
            database.execute("UPDATE run SET id = 'other'")
        page.wait("document.body.dataset.rounds === '2'")


def test_a_worker_s_name_is_no_property_of_every_object(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=1) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        found = page.page.evaluate(
            """async () => {
                const { letterIn, reasonIn } = await import("/static/verdicts.js");
                const round = { updates: [], absent: [], declined: {}, revoked: {} };
                return [letterIn(round, "constructor"), reasonIn(round, "constructor")];
            }"""
        )
        assert found == ["-", "Not asked: it was not part of this round."]


def test_verdicts_that_come_later_are_put_behind_those_that_are_known(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=1) as run, served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        found = page.page.evaluate(
            """async () => {
                const { longer } = await import("/static/verdicts.js");
                const known = { rounds: [1, 2], workers: ["a", "c"], grid: ["sr", "ss"] };
                return longer(known, { rounds: [3], workers: ["a", "b", "c"], grid: ["r", "s", "a"] });
            }"""
        )
        assert found == {"rounds": [1, 2, 3], "workers": ["a", "b", "c"], "grid": ["srr", "--s", "ssa"]}


def test_a_coordinator_that_shows_no_sign_of_life_is_said_to_stall(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=2) as run:
        with closing(sqlite3.connect(run.folder / "run.sqlite", timeout=30)) as database, database:
            database.execute("UPDATE events SET at_s = at_s - 600")  # it began before it fell silent
        run.show_status(3, 0.5, now=datetime.now(UTC) - timedelta(minutes=2))
        with served(run.folder) as (url, _), watched(browser) as page:
            page.open(url)
            assert page.text("#title").startswith("Stalled: no sign of life from the coordinator for")


def test_a_coordinator_that_is_gone_is_said_to_have_stopped(tmp_path: Path, browser: Browser) -> None:
    run = PretendedRun(tmp_path / "run", workers=names(5), attackers=["client5"], rounds=9)
    run.commit(1)
    with served(run.folder) as (url, _), watched(browser) as page:
        page.open(url)
        assert page.text("#title").startswith("Healthy")
        run.close("failed", "the disk is full")
        page.wait("document.getElementById('title').textContent.startsWith('Stopped')")
        assert "the disk is full" in page.text("#more")


def test_a_lost_connection_is_said_and_made_again(tmp_path: Path, browser: Browser) -> None:
    with pretended(tmp_path, rounds=2) as run, watched(browser) as page:
        with served(run.folder) as (url, process):
            page.open(url)
            assert page.page.is_hidden("#lost")
            process.kill()
            page.wait("!document.getElementById('lost').hidden")
            assert "The connection to the dashboard is lost." in page.text("#lost")
            assert page.text("#link-text") == "not connected"
        run.commit(3)
        with served(run.folder, port=int(url.rstrip("/").rpartition(":")[2])):
            page.wait("document.getElementById('lost').hidden && document.body.dataset.rounds === '3'")
            assert page.text("#link-text") == "live"


def test_a_thousand_workers_and_two_hundred_rounds_stay_usable(tmp_path: Path, browser: Browser) -> None:
    workers = names(1000)
    with (
        pretended(tmp_path, rounds=200, workers=workers, attackers=workers[900:], planned=300) as run,
        served(run.folder) as (url, _),
        watched(browser) as page,
    ):
        page.open(url)
        assert page.text("#rejected").endswith("more.")
        assert page.page.evaluate("document.querySelectorAll('*').length") < 5000
        page.page.evaluate("document.querySelector('#workers .scroll').scrollTop = 1e9")
        page.wait("document.querySelector('#workers').textContent.includes('client1000')")
        page.page.fill("#filter", "client777")
        page.wait("document.querySelector('.grid').getAttribute('aria-rowcount') === '2'")
        page.page.click("[role=gridcell][aria-label='client777, round 200: selected']")
        page.wait("!document.getElementById('detail').hidden")
        assert page.text("#detail-title") == "client777, round 200"
        assert not page.complaints
