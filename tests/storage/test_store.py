import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fednet.config import RunId, RunSettings, WorkerName
from fednet.errors import BadInput, StorageError
from fednet.storage.store import CommittedRound, RunStore, StoredUpdate, has_run
from tests.audit.records import chain

SETTINGS = RunSettings(model="small-cnn", image_size=64, classes=("a", "b"), workers=3, quorum=2)


RECORDS = chain({}, {})
FIRST_VERSION = """
CREATE TABLE run (
    id TEXT NOT NULL, created_s REAL NOT NULL, settings TEXT NOT NULL, manifest TEXT NOT NULL, software TEXT NOT NULL
);
CREATE TABLE rounds (
    round INTEGER PRIMARY KEY, committed_s REAL NOT NULL, checkpoint TEXT NOT NULL, model_sha256 TEXT NOT NULL,
    document TEXT NOT NULL
);
CREATE TABLE updates (
    round INTEGER NOT NULL, worker TEXT NOT NULL, sha256 TEXT NOT NULL, samples INTEGER NOT NULL,
    stored_s REAL NOT NULL, PRIMARY KEY (round, worker)
);
PRAGMA user_version = 1;
"""


def stored(worker: str, **changes: Any) -> StoredUpdate:
    fields: dict[str, Any] = {
        "worker": worker,
        "sha256": "ab" * 32,
        "nbytes": 100,
        "samples": 10,
        "train_s": 1.5,
        "loss": 0.5,
        "arrived_s": 2.5,
        "fingerprint": "cd" * 32,
    }
    return StoredUpdate(**(fields | changes))


def committed(number: int) -> CommittedRound:
    return CommittedRound(
        round=number, checkpoint=f"round-{number}.pth", model_sha256="ab" * 32, document={"round": number, "x": [1.5]}
    )


def test_a_run_survives_closing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.begin(RunId("r1"), SETTINGS, RECORDS[0], manifest="m", software="test")
    store.commit(committed(1), RECORDS[1])
    store.commit(committed(2), RECORDS[2])
    store.close()
    again = RunStore(tmp_path)
    assert again.run() == ("r1", SETTINGS, "m")
    assert again.rounds() == [committed(1), committed(2)]
    again.close()


def test_a_committed_round_never_changes(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.commit(committed(1), RECORDS[1])
    with pytest.raises(StorageError):
        store.commit(committed(1), RECORDS[1])
    store.close()


def test_an_update_counts_once(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.update_stored(1, stored("client1", sha256="first", samples=10))
    store.update_stored(1, stored("client1", sha256="second", samples=99))
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        rows = database.execute("SELECT sha256, samples FROM updates").fetchall()
    assert rows == [("second", 99)], "its file has replaced the first one's"
    store.close()


def test_two_coordinators_cannot_hold_one_run(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(BadInput, match="another coordinator"):
        RunStore(tmp_path)
    store.close()
    RunStore(tmp_path).close()


def test_a_run_of_another_schema_is_refused(tmp_path: Path) -> None:
    RunStore(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(BadInput, match="schema version 99"):
        RunStore(tmp_path)


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(BadInput, match="no run"):
        store.run()
    store.close()


def test_a_database_that_is_none_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").write_text("this is no database" * 100)
    with pytest.raises(StorageError):
        RunStore(tmp_path)


def test_a_run_exists_from_its_beginning_and_not_from_its_database(tmp_path: Path) -> None:
    assert not has_run(tmp_path)
    store = RunStore(tmp_path)
    assert not has_run(tmp_path)
    store.begin(RunId("r1"), SETTINGS, RECORDS[0], manifest="m", software="test")
    assert has_run(tmp_path)
    store.close()


def test_a_round_under_way_is_known_with_what_is_durable_of_it(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.round_under_way() is None
    store.round_begun(1, {WorkerName("b"), WorkerName("a")})
    store.update_stored(1, stored("b", confusion=[6, 1, 0, 5]))
    store.update_stored(1, stored("a"))
    store.close()
    store = RunStore(tmp_path)
    found = store.round_under_way()
    assert found is not None
    assert (found.round, sorted(found.cohort), found.updates) == (
        1,
        ["a", "b"],
        (stored("a"), stored("b", confusion=[6, 1, 0, 5])),
    )
    store.update_lost(1, WorkerName("a"))
    again = store.round_under_way()
    assert again is not None and [each.worker for each in again.updates] == ["b"]
    store.commit(committed(1), RECORDS[1])
    assert store.round_under_way() is None, "it is committed"
    store.close()


def test_a_commit_says_what_became_of_each_update(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.update_stored(1, stored("a"))
    updates = [{"worker": "a", "selected": False, "reason": "it points away"}]
    document = committed(1).document | {"updates": updates}
    store.commit(CommittedRound(round=1, checkpoint="c", model_sha256="ab" * 32, document=document), RECORDS[1])
    store.close()
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        assert database.execute("SELECT fate, reason FROM updates").fetchall() == [("rejected", "it points away")]


def test_the_chain_is_kept_as_it_was_signed(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.begin(RunId("r1"), SETTINGS, RECORDS[0], manifest="m", software="test")
    store.commit(committed(1), RECORDS[1])
    store.commit(committed(2), RECORDS[2])
    assert store.records() == RECORDS
    store.close()


def test_a_run_of_the_first_version_is_migrated_and_loses_nothing(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        database.executescript(FIRST_VERSION)
        database.execute("INSERT INTO run VALUES ('r1', 1.0, ?, 'm', 'old')", (json.dumps(SETTINGS.to_dict()),))
        database.execute(
            "INSERT INTO rounds VALUES (1, 1.0, 'round-1.pth', ?, ?)", ("ab" * 32, '{"round": 1, "x": [1.5]}')
        )
        database.execute("INSERT INTO updates VALUES (1, 'a', 'x', 3, 1.0)")
        database.commit()
    store = RunStore(tmp_path)
    assert store.run() == ("r1", SETTINGS, "m")
    assert store.rounds() == [committed(1)]
    assert store.stored_in(1) == {"a"}
    assert store.records() == []
    store.close()


def test_an_update_of_a_run_from_before_sites_judged_tells_nothing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.round_begun(1, {WorkerName("a")})
    store.update_stored(1, stored("a"))
    store.close()
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        database.executescript(
            "ALTER TABLE updates DROP COLUMN confusion; ALTER TABLE updates DROP COLUMN epsilon; "
            "ALTER TABLE updates DROP COLUMN delta; PRAGMA user_version = 2;"
        )
    store = RunStore(tmp_path)
    found = store.round_under_way()
    assert found is not None and found.updates == (stored("a", confusion=[]),)
    store.close()


def test_noise_that_is_charged_is_counted_by_the_next_process(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.noise_draws() == 0
    store.noise_charged()
    store.noise_charged()
    store.close()
    again = RunStore(tmp_path)
    assert again.noise_draws() == 2
    again.close()


def test_an_ending_is_kept(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.ended("parked", "too few")
    store.close()
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        assert database.execute("SELECT what, detail FROM events").fetchall() == [("parked", "too few")]
