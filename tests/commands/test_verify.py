import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fednet.coordinator.record import Retention
from fednet.security.authority import create_authority
from fednet.storage.seal import SEAL
from tests.audit.bytes import change_bytes
from tests.audit.finished import RUN, Site, make_run, settings
from tests.commands.running import Ran, run
from tests.security.certs import NOW


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A finished run of two rounds with three workers, with its updates and a log of each hospital."""
    return make_run(tmp_path_factory.mktemp("site") / "made")


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    return Site(Path(shutil.copytree(made.folder, tmp_path / "site")))


def verify(capsys: pytest.CaptureFixture[str], site: Site, *options: object) -> Ran:
    return run(capsys, "runs", "verify", site.run, "--certs", site.certs, *options)


def change(site: Site, statement: str) -> None:
    """Change the database as somebody with access to the folder would."""
    with closing(sqlite3.connect(site.run / "run.sqlite")) as database:
        database.executescript(statement)


def test_a_finished_run_is_found_as_it_was_signed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(site.folder.rglob("*"))
    ran = verify(capsys, site, "--replay", "--worker-log", site.log("client2"))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1:] == [
        "3 records (rounds 0 to 2), each sealing the one before and signed by the coordinator",
        f"authority: SHA-256 {_fingerprint(capsys, site)}",
        "6 entries, 5 models, 6 kept updates: as recorded",
        "13 files: not a byte changed since the run was sealed",
        "the hospital's log: 3 records as it was shown them, 2 acknowledged updates as it sent them",
        "round 1: replayed: same model",
        "round 2: replayed: same model",
    ]
    assert sorted(site.folder.rglob("*")) == before


def _fingerprint(capsys: pytest.CaptureFixture[str], site: Site) -> str:
    return str(json.loads(verify(capsys, site, "--json").out)["checked"]["authority"])


def test_a_document_says_what_was_checked(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(verify(capsys, site, "--json", "--replay").out)
    assert (document["run"], document["ok"], document["findings"], document["notes"]) == (RUN, True, [], [])
    checked = document["checked"]
    assert (checked["records"], checked["signatures"], checked["sealed"], checked["replayed"]) == (3, 3, 13, [1, 2])


def test_a_run_is_found_by_its_name(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (site.folder / "runs").mkdir()
    site.run.rename(site.folder / "runs" / "made")
    monkeypatch.chdir(site.folder)
    assert run(capsys, "runs", "verify", "made").code == 0


def test_each_finding_is_a_line_that_names_round_and_field(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    change(site, "UPDATE updates SET samples = 7 WHERE round = 2 AND worker = 'client1'")
    ran = verify(capsys, site)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "round 2: update of client1: samples: found 7, expected 47",
        "file run.sqlite: changed since the run was sealed",
    ]
    assert ran.err == f"Error: {site.run} is not as its coordinator signed it: 2 findings\n"
    document = json.loads(verify(capsys, site, "--json").out)
    assert document["ok"] is False
    assert document["findings"][0] == {
        "round": 2,
        "file": None,
        "field": "update of client1: samples",
        "found": "7",
        "expected": "47",
    }


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        (
            "DELETE FROM audit WHERE round = 1",
            "round 1: record: found none of rounds 1 to 1, expected one of each round",
        ),
        ("DELETE FROM audit WHERE round = 0", "round 0: record: found none"),
        ("DELETE FROM rounds WHERE round = 1", "round 1: rounds: found no row"),
        ("DELETE FROM updates WHERE round = 1", "round 1: update of client1: found no row"),
        ("UPDATE rounds SET checkpoint = '../final.pth' WHERE round = 1", "round 1: checkpoint: found ../final.pth"),
        ("UPDATE rounds SET checkpoint = 'gone.pth' WHERE round = 1", "round 1, file checkpoints/gone.pth: missing"),
        ("UPDATE run SET manifest = 'm'", "round 0: manifest: found m, expected "),
        ("UPDATE run SET settings = replace(settings, 'small-cnn', 'resnet18')", "round 2: settings.model: found"),
        ("UPDATE audit SET signature = x'00' WHERE round = 2", "round 2: signature: not the coordinator's"),
        ("DROP TABLE audit", "file run.sqlite: cannot be read (no such table: audit)"),
    ],
)
def test_tampering_with_the_database_is_named(
    site: Site, capsys: pytest.CaptureFixture[str], statement: str, line: str
) -> None:
    change(site, statement)
    ran = verify(capsys, site)
    assert ran.code == 1
    assert any(each.startswith(line) for each in ran.out.splitlines()), ran.out


def test_another_authoritys_run_is_nobodys(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_authority(tmp_path / "others", now=NOW)
    ran = run(capsys, "runs", "verify", site.run, "--certs", tmp_path / "others")
    assert ran.code == 1
    assert "round 0: certificate: not signed by this federation's authority" in ran.out
    assert "file seal.json: certificate: not signed by this federation's authority" in ran.out


def test_a_hospital_that_was_shown_another_record_proves_it(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_run(tmp_path / "other", run_settings=settings(seed=1))
    shutil.rmtree(other.certs)
    ran = verify(capsys, site, "--worker-log", other.log("client1"))
    assert ran.code == 1
    assert "round 1: record: the hospital was shown another record" in ran.out


def test_a_run_under_way_is_verified_without_a_seal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = make_run(tmp_path / "site", run_settings=settings(rounds=3), rounds=2)
    ran = verify(capsys, site, "--replay")
    assert ran.code == 0
    assert "not sealed: the run has not finished" in ran.out
    finished = make_run(tmp_path / "finished", is_sealed=False)
    assert "file seal.json: missing: the run has finished" in verify(capsys, finished).out


def test_rounds_whose_updates_were_not_kept_are_counted(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(site.run / "spool/round-0001")
    ran = verify(capsys, site, "--replay")
    assert ran.code == 1, "they were kept when the run was sealed"
    assert ran.out.splitlines()[-3:] == [
        "round 1: not replayed: its updates were not kept",
        "round 2: replayed: same model",
        "1 of 2 rounds were not replayed",
    ]


def test_what_cannot_be_used_is_said_in_a_line(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "damaged.jsonl").write_text("{\n{}\n")
    unkept = make_run(tmp_path / "unkept", retention=Retention())
    trusting = make_run(tmp_path / "trusting", run_settings=settings(aggregator="tournament"), rounds=0)
    cases = {
        "no run.sqlite there": run(capsys, "runs", "verify", tmp_path, "--certs", site.certs),
        "Name its folder with --certs": run(capsys, "runs", "verify", site.run, "--certs", tmp_path),
        f"nothing of run {RUN}": verify(capsys, site, "--worker-log", tmp_path / "empty.jsonl"),
        "line 1 is damaged": verify(capsys, site, "--worker-log", tmp_path / "damaged.jsonl"),
        "no such file": verify(capsys, site, "--worker-log", tmp_path / "nothing.jsonl"),
        "no updates were kept": verify(capsys, unkept, "--replay"),
        "Add --data": verify(capsys, trusting, "--replay"),
        "split --root 160": verify(capsys, trusting, "--replay", "--data", tmp_path),
    }
    for words, ran in cases.items():
        assert ran.code == 2, (words, ran)
        assert words in ran.err, ran


def test_random_changes_of_single_bytes_are_all_found(made: Site) -> None:
    tally = change_bytes(made, changes=200, seed=0)  # python -m tests.audit.bytes --changes 1000 makes more
    assert not tally.unseen
    assert sum(tally.found.values()) == 200
    assert tally.found[SEAL] and tally.found["run.sqlite"] and tally.found["history.json"]
