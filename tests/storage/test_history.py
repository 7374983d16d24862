import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fednet.errors import BadInput, StorageError
from fednet.storage.history import read_audit_head, read_events, read_history, read_round, rounds_after
from tests.audit.records import record
from tests.reporting.made_up import begun, commit, make_run, round_document


def test_known_rounds_are_not_read_again_and_count_for_how_the_run_stands(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=3)
    whole = read_history(tmp_path)
    rest = read_history(tmp_path, known=whole.rounds[:2])
    assert [each["round"] for each in rest.rounds] == [3]
    assert rest.standing is whole.standing


def test_rounds_come_one_after_the_other(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=3)
    assert [each["round"] for each in rounds_after(tmp_path, 1)] == [2, 3]
    assert list(rounds_after(tmp_path, 3)) == []


def test_a_coordinator_folds_its_journal_while_somebody_reads_its_rounds(tmp_path: Path) -> None:
    store = begun(tmp_path)
    for number in range(1, 26):
        commit(tmp_path, round_document(number))
    reading = rounds_after(tmp_path, 0)
    assert next(reading)["round"] == 1
    with closing(sqlite3.connect(tmp_path / "run.sqlite", timeout=0)) as database:
        assert database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "it was not kept waiting"
    commit(tmp_path, round_document(26))
    assert [each["round"] for each in reading] == list(range(2, 27))
    store.close()


def test_one_round_is_read_by_its_number(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=2)
    assert read_round(tmp_path, 2) == round_document(2)
    with pytest.raises(BadInput, match=r"round 3 of .*found 2 committed rounds"):
        read_round(tmp_path, 3)


def test_events_are_the_newest_first(tmp_path: Path) -> None:
    store = begun(tmp_path)
    store.ended("parked", "too few workers")
    found = read_events(tmp_path, most=10)
    assert [(each["what"], each["detail"]) for each in found] == [("parked", "too few workers"), ("began", "")]
    assert all(each["at"].endswith("+00:00") for each in found)
    assert read_events(tmp_path, most=1) == found[:1]
    store.close()


def test_the_chain_s_head_is_its_last_record(tmp_path: Path) -> None:
    store = begun(tmp_path)
    commit(tmp_path, round_document(1))
    assert read_audit_head(tmp_path) == {"round": 1, "head": record(1, None, {}).digest}
    store.close()


def test_a_folder_without_a_run_is_bad_input_and_a_damaged_one_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.sqlite there"):
        list(rounds_after(tmp_path, 0))
    (tmp_path / "run.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        read_events(tmp_path, most=1)
