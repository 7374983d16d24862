import itertools
import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from fednet.audit.run_files import FoundModel
from fednet.commands.verify import read_model
from fednet.coordinator.inspection import Inspection, inspect
from fednet.coordinator.record import Retention
from fednet.errors import BadInput
from fednet.storage.seal import SEAL
from fednet.storage.store import RunStore
from tests.audit.finished import Site, make_run, settings

UNDER_WAY = settings(rounds=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_run(tmp_path_factory.mktemp("site") / "made")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_run(tmp_path_factory.mktemp("site") / "half", run_settings=UNDER_WAY, rounds=3)


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    """A finished run of its own for each test."""
    return Site(Path(shutil.copytree(made.folder, tmp_path / "site")))


@pytest.fixture
def under_way(half: Site, tmp_path: Path) -> Site:
    """A run of its own that stopped after three rounds of four."""
    return Site(Path(shutil.copytree(half.folder, tmp_path / "site")))


def inspected(site: Site) -> Inspection:
    return inspect(site.run, read_model=read_model, check_signature=site.check)


def findings(site: Site) -> list[str]:
    return [str(each) for each in inspected(site).findings]


def test_a_finished_run_is_as_it_was_signed(site: Site) -> None:
    found = inspected(site)
    assert found.findings == ()
    assert (found.models, found.updates, found.sealed) == (5, 6, 13)
    assert found.notes == ()


def test_a_run_under_way_has_no_seal_and_that_is_said(under_way: Site) -> None:
    found = inspected(under_way)
    assert found.findings == ()
    assert found.notes[0].startswith("not sealed: the run has not finished")
    assert (found.models, found.sealed) == (5, 0)


def test_what_was_published_may_be_a_round_behind_in_a_run_under_way(under_way: Site) -> None:
    path = under_way.run / "history.json"
    history = json.loads(path.read_bytes())
    older = make_run(under_way.folder / "older", run_settings=UNDER_WAY, rounds=2)
    behind = json.loads((older.run / "history.json").read_bytes())
    path.write_text(json.dumps(behind | {"rounds": history["rounds"][:2]}))
    assert findings(under_way) == []
    path.write_text(json.dumps(behind | {"rounds": history["rounds"][:1]}))
    assert findings(under_way), "two rounds behind is too much"


def test_of_a_run_that_goes_on_only_what_every_look_finds_is_wrong(under_way: Site) -> None:
    looks = itertools.count()

    def moving(path: Path) -> FoundModel:
        found = read_model(path)
        if path.name == "best.pth":
            return replace(found, sha256=f"{next(looks):064x}")  # another one each time
        return replace(found, sha256="f" * 64) if path.name == "round-0002.pth" else found

    with closing(RunStore(under_way.run)):
        found = inspect(under_way.run, read_model=moving, check_signature=under_way.check)
    assert [each.file for each in found.findings] == ["checkpoints/round-0002.pth"]


def test_a_run_that_is_held_is_under_way(site: Site) -> None:
    (site.run / SEAL).unlink()
    assert [each.file for each in inspected(site).findings] == [SEAL]
    with closing(RunStore(site.run)):
        assert findings(site) == []


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("checkpoints/round-0000.pth", "round 0, file checkpoints/round-0000.pth: missing"),
        ("checkpoints/round-0002.pth", "round 2, file checkpoints/round-0002.pth: missing"),
        ("best.pth", "round 1, file best.pth: missing"),
        ("final.pth", "round 2, file final.pth: missing"),
        ("history.json", "file history.json: missing"),
        ("spool/round-0001/client2.update", "round 1, file spool/round-0001/client2.update: missing"),
        (SEAL, "file seal.json: missing: the run has finished"),
    ],
)
def test_a_missing_file_is_named(site: Site, name: str, start: str) -> None:
    (site.run / name).unlink()
    found = findings(site)
    assert any(line.startswith(start) for line in found), found
    assert name == SEAL or f"file {name}: missing: it was there when the run was sealed" in found


def test_a_model_of_another_round_is_named(site: Site) -> None:
    shutil.copyfile(site.run / "checkpoints/round-0001.pth", site.run / "final.pth")
    found = findings(site)
    assert found[0].startswith("round 2, file final.pth: model: found ")
    assert found[1:] == [
        "round 2, file final.pth: round: found 1, expected 2",
        "file final.pth: changed since the run was sealed",
    ]


def test_a_file_that_is_no_model_is_named(site: Site) -> None:
    (site.run / "best.pth").write_bytes(b"no model")
    assert findings(site)[0] == "round 1, file best.pth: a file that is damaged or no PyTorch checkpoint"


def test_a_changed_history_is_named_by_its_field(site: Site) -> None:
    path = site.run / "history.json"
    path.write_text(path.read_text().replace('"accuracy": 0.52', '"accuracy": 0.92', 1))
    assert findings(site) == [
        "file history.json: rounds[1].validation.accuracy: found 0.92, expected 0.52",
        "file history.json: changed since the run was sealed",
    ]
    path.write_text("{")
    assert findings(site)[0] == "file history.json: no JSON object"


def test_an_update_that_was_changed_on_disk_is_named(site: Site) -> None:
    with (site.run / "spool/round-0002/client3.update").open("r+b") as file:
        file.write(b"\x01")
    first, second = inspected(site).findings
    assert (first.round, first.file, first.field) == (2, "spool/round-0002/client3.update", "sha256")
    assert str(second) == "file spool/round-0002/client3.update: changed since the run was sealed"


def test_a_database_that_cannot_be_read_is_named(site: Site) -> None:
    (site.run / "run.sqlite").write_bytes(b"no database")
    assert findings(site) == [
        "file run.sqlite: cannot be read (file is not a database)",
        "file run.sqlite: changed since the run was sealed",
    ]


def test_checkpoints_that_were_not_kept_are_not_missed(tmp_path: Path) -> None:
    site = make_run(tmp_path / "site", run_settings=UNDER_WAY, retention=Retention(checkpoints=1))
    assert sorted(path.name for path in (site.run / "checkpoints").iterdir()) == [
        "round-0000.pth",
        "round-0001.pth",  # the best
        "round-0004.pth",
    ]
    found = inspected(site)
    assert found.findings == ()
    assert (found.models, found.updates) == (5, 0)


def test_a_folder_without_a_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run\.sqlite there"):
        inspect(tmp_path, read_model=read_model, check_signature=lambda header, signature, certificate: None)
