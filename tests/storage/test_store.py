import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fednet.config import RunId, RunSettings
from fednet.errors import BadInput, StorageError
from fednet.storage.store import CommittedRound, RunStore, has_run

SETTINGS = RunSettings(model="small-cnn", image_size=64, classes=("a", "b"), workers=3, quorum=2)


def committed(number: int) -> CommittedRound:
    return CommittedRound(
        round=number, checkpoint=f"round-{number}.pth", model_sha256="ab" * 32, document={"round": number, "x": [1.5]}
    )


def test_a_run_survives_closing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.begin(RunId("r1"), SETTINGS, manifest="m", software="test")
    store.commit(committed(1))
    store.commit(committed(2))
    store.close()
    again = RunStore(tmp_path)
    assert again.run() == ("r1", SETTINGS, "m")
    assert again.rounds() == [committed(1), committed(2)]
    again.close()


def test_a_committed_round_never_changes(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.commit(committed(1))
    with pytest.raises(StorageError):
        store.commit(committed(1))
    store.close()


def test_an_update_counts_once(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.update_stored(1, "client1", sha256="first", samples=10)
    store.update_stored(1, "client1", sha256="second", samples=99)
    with closing(sqlite3.connect(tmp_path / "run.sqlite")) as database:
        rows = database.execute("SELECT sha256, samples FROM updates").fetchall()
    assert rows == [("first", 10)]
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
    store.begin(RunId("r1"), SETTINGS, manifest="m", software="test")
    assert has_run(tmp_path)
    store.close()
