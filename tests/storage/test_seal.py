import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fednet.audit.findings import Finding
from fednet.errors import AuditError
from fednet.security.signing import RecordSigner
from fednet.storage import disk
from fednet.storage.seal import SEAL, break_seal, check_seal, files_now, read_seal, seal_run
from fednet.storage.store import RunStore
from tests.audit.finished import RUN, Site, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_run(tmp_path_factory.mktemp("site") / "made")


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    """A finished run of its own for each test."""
    return Site(Path(shutil.copytree(made.folder, tmp_path / "site")))


def findings(site: Site, *, run: str | None = RUN, record: str | None = None) -> list[Finding]:
    content = (site.run / SEAL).read_bytes()
    return check_seal(content, files_now(site.run), run=run, record=record, check_signature=site.check)


def test_a_seal_names_every_file_that_the_coordinator_left(site: Site) -> None:
    sealed = read_seal((site.run / SEAL).read_bytes()).files
    assert {"run.sqlite", "best.pth", "final.pth", "history.json", "checkpoints/round-0000.pth"} <= sealed.keys()
    assert sum(name.startswith("spool/") for name in sealed) == 6
    assert not {"lock", "status.json", SEAL, "run.sqlite-wal"} & sealed.keys()
    assert findings(site) == []


def test_what_others_leave_beside_it_is_no_change(site: Site) -> None:
    for name in ("lock", "status.json", "rounds.csv"):
        (site.run / name).write_text("later")
    (site.run / "run.sqlite-wal").touch()
    assert findings(site) == []


def test_changed_new_and_missing_files_are_named(site: Site) -> None:
    with (site.run / "best.pth").open("ab") as file:
        file.write(b"\0")
    (site.run / "final.pth").unlink()
    (site.run / "spool" / "more").write_bytes(b"")
    (site.run / "run.sqlite-wal").write_bytes(b"pages that a reader would take for the database's")
    assert [(each.file, each.found.split()[0].strip(":")) for each in findings(site)] == [
        ("best.pth", "changed"),
        ("final.pth", "missing"),
        ("run.sqlite-wal", "new"),
        ("spool/more", "new"),
    ]


def test_another_runs_seal_or_an_older_one_is_named(site: Site) -> None:
    assert [each.field for each in findings(site, run="another", record="0" * 64)] == ["run", "record"]
    assert findings(site, run=None) == []


def test_every_byte_of_a_seal_matters(site: Site) -> None:
    content = (site.run / SEAL).read_bytes()
    files = files_now(site.run)
    for offset in range(0, len(content), 3):
        changed = content[:offset] + bytes([content[offset] ^ 0x20]) + content[offset + 1 :]  # an f becomes an F
        assert check_seal(changed, files, run=RUN, record=None, check_signature=site.check), offset


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"files": []}', b"[" * 100_000])
def test_what_is_no_seal_is_said(content: bytes) -> None:
    with pytest.raises(AuditError, match="no seal"):
        read_seal(content)


def test_a_seal_that_is_written_otherwise_is_changed(site: Site) -> None:
    document = json.loads((site.run / SEAL).read_bytes())
    with pytest.raises(AuditError, match="not as a seal is written"):
        read_seal(json.dumps(document, indent=1).encode())
    with pytest.raises(AuditError, match="not as a seal is written"):
        read_seal(read_seal((site.run / SEAL).read_bytes()).encoded().replace(b'{"cert', b'{"note":1,"cert'))


def test_a_broken_seal_is_gone_for_good(site: Site) -> None:
    seen: list[disk.Operation] = []
    with disk.watched(seen.append):
        break_seal(site.run)
    assert not (site.run / SEAL).exists()
    assert [each.kind for each in seen] == [disk.Kind.UNLINK, disk.Kind.SYNC_FOLDER]
    break_seal(site.run)


def test_the_database_is_one_file_when_it_is_sealed_and_its_folder_is_held(site: Site) -> None:
    break_seal(site.run)
    with closing(RunStore(site.run)) as store:
        store.ended("finished", "once more")
        seal_run(store, RecordSigner(site.certs))
        assert not (site.run / "run.sqlite-wal").exists()
        with pytest.raises(Exception, match="another coordinator"):
            RunStore(site.run)
    assert findings(site) == []


def test_what_a_reader_keeps_in_the_journal_is_sealed_with_it(site: Site) -> None:
    break_seal(site.run)
    with closing(RunStore(site.run)) as store, closing(sqlite3.connect(site.run / "run.sqlite")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM run").fetchall()
        store.ended("finished", "once more")
        store._database.execute("PRAGMA busy_timeout = 1")  # a reader is waited for, but not for ever
        seal_run(store, RecordSigner(site.certs))
        assert "run.sqlite-wal" in read_seal((site.run / SEAL).read_bytes()).files
        assert findings(site) == []


def test_opening_a_sealed_run_to_resume_it_changes_nothing_yet(site: Site) -> None:
    RunStore(site.run).close()
    assert findings(site) == []
