import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fednet.errors import AuditError, BadInput
from fednet.storage.evidence import read_evidence
from fednet.storage.store import RunStore
from tests.audit.finished import RUN, Site, make_run, settings


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_run(tmp_path_factory.mktemp("site") / "made")


@pytest.fixture
def run(made: Site, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.run, tmp_path / "run"))


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Return everything that can be seen of a folder's files."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_reading_changes_nothing_and_leaves_nothing(run: Path) -> None:
    before = state_of(run)
    rows = read_evidence(run)
    assert rows.run == RUN
    assert [row.round for row in rows.records] == [0, 1, 2]
    assert [row.round for row in rows.rounds] == [1, 2]
    assert len(rows.updates) == 6
    assert state_of(run) == before


def test_what_a_crash_left_in_the_journal_is_read_and_stays_there(run: Path) -> None:
    store = RunStore(run)
    store.round_begun(3, [])
    store.resume(settings(rounds=3), None)
    shutil.copytree(run, run.with_name("crashed"))
    store.close()
    crashed = run.with_name("crashed")
    (crashed / "run.sqlite-shm").unlink()
    before = state_of(crashed)
    assert before["run.sqlite-wal"] != before["lock"]
    assert len(read_evidence(crashed).resumed_s) == 1
    assert state_of(crashed) == before


def test_a_run_under_way_is_read_as_it_stands(run: Path) -> None:
    with closing(RunStore(run)) as store:
        store.resume(settings(rounds=3), None)
        before = set(run.iterdir())
        assert len(read_evidence(run).resumed_s) == 1
        assert set(run.iterdir()) == before


def changed(run: Path, statement: str) -> None:
    with closing(sqlite3.connect(run / "run.sqlite")) as database:
        database.executescript(f"PRAGMA journal_mode=DELETE; {statement}")


def test_a_run_from_before_there_were_records_is_said(run: Path) -> None:
    changed(run, "DROP TABLE audit; PRAGMA user_version = 1")
    with pytest.raises(BadInput, match="an older version began it"):
        read_evidence(run)


def test_a_run_that_was_never_begun_is_said(run: Path) -> None:
    changed(run, "DELETE FROM run")
    with pytest.raises(BadInput, match="never begun"):
        read_evidence(run)


@pytest.mark.parametrize("statement", ["DROP TABLE audit", "ALTER TABLE rounds RENAME document TO other"])
def test_a_database_of_another_shape_cannot_be_read(run: Path, statement: str) -> None:
    changed(run, statement)
    with pytest.raises(AuditError, match="cannot be read"):
        read_evidence(run)


def test_a_damaged_database_cannot_be_read(run: Path) -> None:
    (run / "run.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(AuditError, match="cannot be read"):
        read_evidence(run)


def test_text_that_is_none_is_read_for_what_it_is(run: Path) -> None:
    changed(run, "UPDATE rounds SET document = CAST(x'ff' AS TEXT) WHERE round = 1")
    assert read_evidence(run).rounds[0].document == "\udcff"
