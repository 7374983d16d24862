import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fednet.config import RunId, WorkerName
from fednet.errors import BadInput
from fednet.reporting.reporter import WorkerView
from fednet.reporting.status import StatusFile, standing_of
from fednet.storage.store import RunStore
from tests.audit.records import chain
from tests.storage.test_store import SETTINGS, committed

RECORDS = chain({}, {})
VIEW = WorkerView(name=WorkerName("client1"), activity="training", fraction=0.5)


def begun(folder: Path) -> RunStore:
    store = RunStore(folder)
    store.begin(RunId("run"), SETTINGS, RECORDS[0], manifest="m", software="test")
    return store


def test_a_run_that_is_served_is_healthy_while_it_shows_signs_of_life(tmp_path: Path) -> None:
    store = begun(tmp_path)
    starting = standing_of(tmp_path, now=datetime.now(UTC))
    assert (starting.is_healthy, "it is starting" in starting.text) == (False, True)
    text = "round 1 of 10, waiting for client1"
    StatusFile(tmp_path).show(text, phase="collecting", round_number=1, views=[VIEW], declined={})
    alive = standing_of(tmp_path, now=datetime.now(UTC))
    assert alive.is_healthy
    assert alive.text == "running: 0 of 10 rounds committed; round 1 of 10, waiting for client1"
    assert alive.document["live"]["workers"][0]["activity"] == "training"
    hung = standing_of(tmp_path, now=datetime.now(UTC) + timedelta(seconds=20))
    assert (hung.is_healthy, "no sign of life for 20 s" in hung.text) == (False, True)
    store.close()


def test_a_resumed_run_is_not_judged_by_what_the_process_before_it_said(tmp_path: Path) -> None:
    begun(tmp_path).close()
    StatusFile(tmp_path).show("waiting", phase="collecting", round_number=1, views=[VIEW], declined={})
    status = tmp_path / "status.json"
    left = json.loads(status.read_text()) | {"updated": (datetime.now(UTC) - timedelta(days=1)).isoformat()}
    status.write_text(json.dumps(left))
    store = RunStore(tmp_path)
    starting = standing_of(tmp_path, now=datetime.now(UTC))
    assert "it is starting" in starting.text and starting.document["live"] is None
    hung = standing_of(tmp_path, now=datetime.now(UTC) + timedelta(seconds=20))
    assert not hung.is_healthy and "no sign of life for 2" in hung.text
    store.close()


def test_a_killed_run_and_a_parked_one_are_told_apart(tmp_path: Path) -> None:
    begun(tmp_path).close()
    killed = standing_of(tmp_path, now=datetime.now(UTC))
    assert not killed.is_healthy
    assert "its process was killed, or lost power" in killed.text and "--resume" in killed.text
    store = RunStore(tmp_path)
    store.ended("parked", "too few workers")
    store.close()
    assert "parked: too few workers" in standing_of(tmp_path, now=datetime.now(UTC)).text


def test_a_finished_run_is_healthy(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    settings = type(SETTINGS)(**(vars(SETTINGS) | {"rounds": 1}))
    store.begin(RunId("run"), settings, RECORDS[0], manifest="m", software="test")
    store.commit(committed(1), RECORDS[1])
    store.ended("finished", "all 1 rounds are done")
    store.close()
    found = standing_of(tmp_path, now=datetime.now(UTC))
    assert (found.is_healthy, found.text) == (True, "finished: 1 of 1 rounds committed")


def test_a_folder_without_a_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.sqlite there"):
        standing_of(tmp_path, now=datetime.now(UTC))


def test_a_status_that_cannot_be_written_is_logged_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blocked").write_text("a file")
    status = StatusFile(tmp_path / "blocked" / "run")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            status.show("text", phase="collecting", round_number=1, views=[], declined={})
    assert len(caplog.records) == 1


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    StatusFile(tmp_path).show("text", phase="collecting", round_number=3, views=[VIEW], declined={})
    document = json.loads((tmp_path / "status.json").read_text())
    assert (document["round"], document["phase"], document["text"]) == (3, "collecting", "text")


def test_a_thousand_workers_are_one_short_file_with_what_a_page_shows_of_each(tmp_path: Path) -> None:
    now = datetime(2026, 11, 26, 12, tzinfo=UTC)
    shown = replace(VIEW, remaining_s=12.34567, images_per_s=100.0, loss=0.5, last_seen=now, certificate_expires=now)
    views = [replace(shown, name=WorkerName(f"client{number}")) for number in range(1000)]
    StatusFile(tmp_path).show("text", phase="collecting", round_number=3, round_s=7.25, views=views, declined={})
    text = (tmp_path / "status.json").read_text()
    assert len(text) < 300_000
    document = json.loads(text)
    assert document["round_s"] == 7.25
    assert document["workers"][999] == {
        "name": "client999",
        "connected": True,
        "activity": "training",
        "fraction": 0.5,
        "remaining_s": 12.3457,
        "images_per_s": 100.0,
        "loss": 0.5,
        "samples": 0,
        "device": "",
        "last_seen": "2026-11-26T12:00:00.000+00:00",
        "certificate_expires": "2026-11-26T12:00:00.000+00:00",
    }


def test_who_declined_what_is_said_while_the_run_goes_on_and_after_it(tmp_path: Path) -> None:
    store = begun(tmp_path)
    store.run_declined(WorkerName("client2"), "the run has 10 rounds, at most 5 agreed")
    store.run_declined(WorkerName("client3"), "it changed its mind later")
    store.worker_seen(WorkerName("client3"), fingerprint="f", samples=1, device="cpu")
    document = committed(1)
    document.document["declined"] = {"client4": "it is Mon 12:00 here"}
    store.commit(document, RECORDS[1])
    StatusFile(tmp_path).show(
        "waiting", phase="collecting", round_number=2, views=[], declined={WorkerName("client4"): "noon"}
    )
    found = standing_of(tmp_path, now=datetime.now(UTC))
    store.close()
    assert found.document["live"]["declined"] == {"client4": "noon"}
    assert found.document["declined"] == {
        "run": ["client2: the run has 10 rounds, at most 5 agreed"],
        "rounds": {1: {"client4": "it is Mon 12:00 here"}},
    }
    assert found.text.splitlines()[1:] == [
        "declined the run: client2: the run has 10 rounds, at most 5 agreed",
        "client4 declined 1 of 1 rounds, last round 1: it is Mon 12:00 here",
    ]
    ended = standing_of(tmp_path, now=datetime.now(UTC))
    assert "killed, or lost power" in ended.text, "a hospital's no is not how the run ended"
