import re
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from fednet.dashboard.app import dashboard_app
from fednet.dashboard.events import MAX_WATCHERS, Watch
from fednet.dashboard.feed import Feed
from fednet.dashboard.security import Access
from tests.reporting.made_up import ATTACKER_REASON, begun, commit, make_run, round_document

DOOR = Access(hosts=["127.0.0.1"])


def client(folder: Path) -> AsyncClient:
    return AsyncClient(transport=ASGITransport(dashboard_app(Feed(folder), DOOR)), base_url="http://127.0.0.1:8733")


@pytest.fixture
def page(tmp_path: Path) -> AsyncClient:
    make_run(tmp_path, rounds=3)
    return client(tmp_path)


async def test_the_run_is_served_as_json(page: AsyncClient) -> None:
    answer = await page.get("/api/run")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert (answer.json()["rounds_done"], answer.json()["standing"]) == (3, "finished")


async def test_verdicts_and_a_round_name_the_attacker(page: AsyncClient) -> None:
    found = (await page.get("/api/verdicts")).json()
    assert dict(zip(found["workers"], found["grid"], strict=True))["client5"] == "rrr"
    newer = (await page.get("/api/verdicts?after=2")).json()
    assert newer == {"rounds": [3], "workers": found["workers"], "grid": [letters[2:] for letters in found["grid"]]}
    updates = {each["worker"]: each for each in (await page.get("/api/rounds/2")).json()["updates"]}
    assert updates["client5"]["reason"] == ATTACKER_REASON


@pytest.mark.parametrize("path", ["/api/rounds/4", "/api/rounds/0", "/api/rounds/one", "/api", "/static/none.js"])
async def test_what_is_not_there_is_a_line_of_json(page: AsyncClient, path: str) -> None:
    answer = await page.get(path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]


@pytest.mark.parametrize("path", ["/static/%2e%2e/app.py", "/static/%2e%2e%2fapp.py", "/static//etc/passwd"])
async def test_only_the_page_s_own_files_are_served(page: AsyncClient, path: str) -> None:
    assert (await page.get(path)).status_code == 404


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "1e3", "-1", "%D9%A1"])
async def test_a_round_number_of_any_form_is_answered(page: AsyncClient, number: str) -> None:
    answer = await page.get(f"/api/rounds/{number}")
    assert answer.status_code == 404 and "is no number of a round" in answer.json()["error"]


@pytest.mark.parametrize("after", ["", "-1", "x", "9" * 5000])
async def test_verdicts_after_no_number_of_rounds_are_refused(page: AsyncClient, after: str) -> None:
    answer = await page.get(f"/api/verdicts?after={after}")
    assert answer.status_code == 400 and "is no number of rounds" in answer.json()["error"]


async def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    for path in ("/api/run", "/api/verdicts", "/api/rounds/1", "/metrics"):
        answer = await client(tmp_path).get(path)
        assert answer.status_code == 404 and "no run.sqlite there" in answer.json()["error"]


async def test_a_damaged_run_says_so(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=1)
    (tmp_path / "run.sqlite").write_bytes(b"no database" * 1000)
    answer = await client(tmp_path).get("/api/run")
    assert answer.status_code == 503 and "run.sqlite" in answer.json()["error"]


async def test_a_worker_named_like_markup_comes_through_as_text(tmp_path: Path) -> None:
    store = begun(tmp_path)
    document = round_document(1)
    document["updates"][0] |= {"worker": "<script>alert(1)</script>", "reason": "</script><img src=x onerror=alert(1)>"}
    commit(tmp_path, document)
    answer = await client(tmp_path).get("/api/run")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    rows = {each["name"]: each["last_reason"] for each in answer.json()["workers"]}
    assert rows["<script>alert(1)</script>"] == "</script><img src=x onerror=alert(1)>"
    store.close()


async def test_the_page_loads_nothing_from_elsewhere(page: AsyncClient) -> None:
    answer = await page.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script>" not in answer.text and "style=" not in answer.text
    named = re.findall(r"(?:src|href|action|srcset)=\"([^\"]*)\"", answer.text)
    assert "/static/dashboard.js" in named
    assert all(re.match(r"#|/[^/]", each) for each in named), named
    for name in {each for each in named if each.startswith("/")}:
        assert (await page.get(name)).status_code == 200, name


async def test_metrics_are_text_for_prometheus(page: AsyncClient) -> None:
    answer = await page.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "fednet_run_info" in answer.text


async def test_asking_for_the_head_of_the_events_ends(page: AsyncClient) -> None:
    answer = await page.head("/events")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_too_many_pages_are_told_so(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=1)
    watch = Watch(Feed(tmp_path))
    watch.watchers = MAX_WATCHERS
    app = dashboard_app(Feed(tmp_path), DOOR, watch=watch)
    answer = await AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1").get("/events")
    assert answer.status_code == 503 and "close one" in answer.json()["error"]
