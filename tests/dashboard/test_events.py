import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fednet.dashboard.events import EventStream, Watch
from fednet.dashboard.feed import Feed
from tests.reporting.made_up import begun, commit, make_run, round_document

SCOPE = {"type": "http", "method": "GET", "path": "/events", "headers": []}


class Browser:
    """An ASGI server with one watcher, who takes a message when a test asks for one."""

    def __init__(self, watch: Watch) -> None:
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1)
        self._left = asyncio.Event()
        self.task = asyncio.create_task(EventStream(watch)(SCOPE, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self._messages.put(message)

    async def message(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            return await self._messages.get()

    async def event(self) -> tuple[str, dict[str, Any]]:
        body = (await self.message())["body"].decode()
        name, data, end = body.split("\n", 2)
        assert end == "\n"
        return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    async def leave(self) -> None:
        self._left.set()
        async with asyncio.timeout(20):
            await self.task


class CountedFeed(Feed):
    looks = 0

    def look(self) -> str:
        self.looks += 1
        return super().look()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[tuple[Path, Watch]]:
    store = begun(tmp_path)
    yield tmp_path, Watch(Feed(tmp_path), every_s=0.02)
    store.close()


async def opened(watch: Watch) -> Browser:
    browser = Browser(watch)
    start = await browser.message()
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
    return browser


async def test_a_committed_round_is_a_new_event(watched: tuple[Path, Watch]) -> None:
    folder, watch = watched
    browser = await opened(watch)
    name, run = await browser.event()
    assert (name, run["rounds_done"]) == ("run", 0)
    commit(folder, round_document(1))
    name, run = await browser.event()
    assert (name, run["rounds_done"]) == ("run", 1)
    await browser.leave()
    assert watch.watchers == 0


async def test_while_nothing_changes_there_are_only_comments(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=1)
    browser = await opened(Watch(Feed(tmp_path), every_s=0.01, heartbeat_s=0.05))
    await browser.event()
    for _ in range(2):
        assert (await browser.message())["body"] == b": still here\n\n"
    await browser.leave()


async def test_a_slow_watcher_gets_the_newest_and_holds_up_nobody(watched: tuple[Path, Watch]) -> None:
    folder, watch = watched
    slow, quick = await opened(watch), await opened(watch)
    await quick.event()
    for number in range(1, 6):
        commit(folder, round_document(number))
        assert (await quick.event())[1]["rounds_done"] == number
    found = [(await slow.event())[1]["rounds_done"] for _ in range(3)]
    assert found[-1] == 5, f"at most what was on its way, then the newest: {found}"
    await slow.leave()
    await quick.leave()


async def test_a_watcher_counts_before_it_has_been_answered(watched: tuple[Path, Watch]) -> None:
    _, watch = watched
    browsers = [Browser(watch) for _ in range(3)]
    await asyncio.sleep(0)
    assert watch.watchers == 3
    for browser in browsers:
        await browser.leave()


async def test_a_run_that_vanishes_is_an_event_and_so_is_its_return(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_run(folder, rounds=1)
    browser = await opened(Watch(Feed(folder), every_s=0.02))
    assert (await browser.event())[0] == "run"
    folder.rename(tmp_path / "elsewhere")
    name, said = await browser.event()
    assert name == "gone" and "no run.sqlite there" in said["error"]
    (tmp_path / "elsewhere").rename(folder)
    name, run = await browser.event()
    assert (name, run["rounds_done"]) == ("run", 1)
    await browser.leave()


async def test_many_watchers_cost_one_look(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=1)
    feed = CountedFeed(tmp_path)
    watch = Watch(feed, every_s=3600)
    browsers = [await opened(watch) for _ in range(5)]
    for browser in browsers:
        await browser.event()
    assert feed.looks == 1
    for browser in browsers:
        await browser.leave()


async def test_a_watcher_that_leaves_while_it_is_sent_to_is_forgotten(watched: tuple[Path, Watch]) -> None:
    _, watch = watched
    browser = await opened(watch)
    await browser.leave()
    assert watch.watchers == 0
