import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fednet.config import RunId, WorkerName
from fednet.dashboard.feed import Feed
from fednet.errors import BadInput, StorageError
from fednet.reporting.reporter import WorkerView
from fednet.reporting.status import StatusFile
from fednet.storage.store import RunStore
from tests.audit.records import chain
from tests.reporting.made_up import begun, commit, make_run, round_document, settings


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def show_status(folder: Path, *, fraction: float = 0.5) -> None:
    view = WorkerView(name=WorkerName("client1"), activity="training", fraction=fraction)
    StatusFile(folder).show("waiting", phase="collecting", round_number=1, views=[view], declined={})


def seen(feed: Feed) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(feed.look())
    return found


def change(folder: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(folder / "run.sqlite", timeout=30)) as database, database:
        database.execute(statement, values)


def test_where_nothing_has_changed_nothing_is_read(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=2)
    feed = Feed(tmp_path)
    first = feed.look()
    database = tmp_path / "run.sqlite"
    before, content = database.stat(), database.read_bytes()
    database.write_bytes(b"?" * len(content))  # whoever read it would fail
    os.utime(database, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert feed.look() is first


def test_a_committed_round_is_read_once(tmp_path: Path) -> None:
    store = begun(tmp_path)
    commit(tmp_path, round_document(1))
    feed = Feed(tmp_path)
    assert seen(feed)["rounds_done"] == 1
    change(tmp_path, "UPDATE rounds SET document = 'no JSON' WHERE round = 1")
    commit(tmp_path, round_document(2))
    found = seen(feed)
    assert (found["rounds_done"], found["series"]["round"]) == (2, [1, 2])
    assert [len(row) for row in feed.verdicts()["grid"]] == [2] * 5
    store.close()


def test_the_newest_round_is_answered_with_what_was_read_already(tmp_path: Path) -> None:
    store = begun(tmp_path)
    commit(tmp_path, round_document(1))
    feed = Feed(tmp_path)
    feed.look()
    assert json.loads(feed.round(1))["round"] == 1  # from now on somebody looks at rounds
    commit(tmp_path, round_document(2))
    feed.look()
    afresh = Feed(tmp_path).round(2)
    change(tmp_path, "UPDATE rounds SET document = 'no JSON'")
    assert feed.round(2) == afresh
    store.close()


def test_a_round_that_cannot_be_drawn_takes_nothing_from_the_overview(tmp_path: Path) -> None:
    store = begun(tmp_path)
    commit(tmp_path, round_document(1))
    feed = Feed(tmp_path)
    feed.round(1)
    feed.look()
    commit(tmp_path, round_document(2) | {"aggregation": {"scored": ["client1"], "squared_distances": [["far"]]}})
    assert seen(feed)["rounds_done"] == 2
    with pytest.raises(StorageError, match=r"round 2 of .* not as a coordinator writes it"):
        feed.round(2)
    store.close()


def test_a_round_that_cannot_be_added_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = begun(tmp_path)
    commit(tmp_path, round_document(1))
    feed = Feed(tmp_path)
    feed.look()
    whole = round_document(2)
    commit(tmp_path, {name: value for name, value in whole.items() if name != "updates"} | {"updates": [{}]})
    for _ in range(2):
        with pytest.raises(StorageError, match="KeyError"):
            feed.look()
    change(tmp_path, "UPDATE rounds SET document = ? WHERE round = 2", json.dumps(whole))
    assert seen(feed)["series"]["round"] == [1, 2]
    assert [len(row) for row in feed.verdicts()["grid"]] == [2] * 5
    store.close()


@pytest.mark.parametrize("document", ["no JSON", "[]", '{"updates": []}'])
def test_a_round_that_no_coordinator_writes_is_said(tmp_path: Path, document: str) -> None:
    store = begun(tmp_path)
    commit(tmp_path, round_document(2))
    change(tmp_path, "UPDATE rounds SET document = ?", document)
    feed = Feed(tmp_path)
    for ask in (feed.look, feed.verdicts, lambda: feed.round(2)):
        with pytest.raises(StorageError, match="not as a coordinator writes it"):
            ask()
    store.close()


def test_the_loss_of_a_model_that_has_diverged_is_none(tmp_path: Path) -> None:
    store = begun(tmp_path)
    commit(tmp_path, round_document(1))
    test = round_document(2)["test"]
    commit(tmp_path, round_document(2, test=test | {"loss": float("nan")}))
    feed = Feed(tmp_path)
    losses = seen(feed)["series"]["loss"]
    assert losses[0] > 0 and losses[1] is None
    assert json.loads(feed.round(2))["test"]["loss"] is None
    store.close()


@pytest.mark.parametrize("status", ["[]", "{}", '{"updated": "soon"}', '{"updated": 1}'])
def test_a_status_that_no_coordinator_writes_is_said(tmp_path: Path, status: str) -> None:
    store = begun(tmp_path)
    (tmp_path / "status.json").write_text(status)
    with pytest.raises(StorageError, match="not as a coordinator writes it"):
        Feed(tmp_path).look()
    store.close()


def test_a_coordinator_that_never_says_anything_is_said_to_stall(tmp_path: Path) -> None:
    store, clock = begun(tmp_path), Clock()
    feed = Feed(tmp_path, clock=clock)
    assert seen(feed)["stalled_s"] is None
    clock.now += timedelta(seconds=20)
    assert seen(feed)["stalled_s"] == pytest.approx(20, abs=2)
    store.close()


def test_a_renewed_status_is_shown(tmp_path: Path) -> None:
    store = begun(tmp_path)
    show_status(tmp_path)
    feed = Feed(tmp_path)
    assert seen(feed)["workers"][0]["fraction"] == 0.5
    show_status(tmp_path, fraction=0.75)
    found = seen(feed)
    assert (found["workers"][0]["fraction"], found["live"]["workers_connected"]) == (0.75, 1)
    store.close()


def test_a_coordinator_that_falls_silent_is_said_though_no_file_changes(tmp_path: Path) -> None:
    store, clock = begun(tmp_path), Clock()
    show_status(tmp_path)
    feed = Feed(tmp_path, clock=clock)
    lively = feed.look()
    clock.now += timedelta(seconds=10)
    assert feed.look() is lively
    clock.now += timedelta(seconds=10)
    assert seen(feed)["stalled_s"] == pytest.approx(20, abs=1)
    silent = feed.look()
    clock.now += timedelta(seconds=6)
    assert feed.look() is not silent, "for how long is renewed"
    show_status(tmp_path)
    clock.now = datetime.now(UTC)
    assert seen(feed)["stalled_s"] is None
    store.close()


def test_the_end_of_a_run_is_shown(tmp_path: Path) -> None:
    store = begun(tmp_path, settings(rounds=1))
    commit(tmp_path, round_document(1))
    feed = Feed(tmp_path)
    assert seen(feed)["standing"] == "running"
    store.ended("finished", "all 1 rounds are done")
    store.close()
    found = seen(feed)
    assert (found["standing"], found["ending"]) == ("finished", "finished: all 1 rounds are done")
    assert [each["what"] for each in found["events"]] == ["finished", "began"]
    assert found["audit"]["round"] == 1 and len(found["audit"]["head"]) == 64


def test_a_run_that_vanishes_is_said_and_one_that_comes_back_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_run(folder, rounds=1)
    feed = Feed(folder)
    feed.look()
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=r"no run\.sqlite there"):
        feed.look()
    (tmp_path / "elsewhere").rename(folder)
    assert seen(feed)["rounds_done"] == 1


def test_another_run_in_its_place_is_another_run(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=2)
    feed = Feed(tmp_path)
    assert seen(feed)["rounds_done"] == 2
    (tmp_path / "run.sqlite").unlink()
    store = RunStore(tmp_path)
    store.begin(RunId("other"), settings(), chain()[0], manifest="m", software="test")
    found = seen(feed)
    assert (found["run"], found["rounds_done"], found["series"]["round"]) == ("other", 0, [])
    store.close()


def test_a_run_that_has_not_begun_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.sqlite there"):
        Feed(tmp_path).look()
    store = RunStore(tmp_path)
    feed = Feed(tmp_path)
    with pytest.raises(BadInput, match="has not begun"):
        feed.look()
    store.begin(RunId("run"), settings(), chain()[0], manifest="m", software="test")
    assert seen(feed)["rounds_done"] == 0
    store.close()


def test_one_round_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=2)
    feed = Feed(tmp_path)
    assert json.loads(feed.round(2))["round"] == 2
    with pytest.raises(BadInput, match="found 2 committed rounds"):
        feed.round(3)
