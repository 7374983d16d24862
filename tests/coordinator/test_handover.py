import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fednet import failpoints
from fednet.commands.verify import read_model
from fednet.coordinator.handover import Examine
from fednet.coordinator.inspection import inspect
from fednet.coordinator.record import Retention
from fednet.errors import StorageError
from fednet.reporting.examination import not_calibrated
from fednet.security.signing import RecordSigner
from fednet.storage.seal import SEAL, seal_run
from fednet.storage.store import RunStore
from models.checkpoint import load
from tests.audit.finished import Run, Site, make_run, settings
from tests.reporting.cards import EXAMINED, FITTED

HANDED_ON = ("best.card.json", "best.card.md", "best.pth", "final.card.json", "final.card.md", "final.pth")


@pytest.fixture(autouse=True)
def nothing_stays_armed() -> Iterator[None]:
    yield
    failpoints.disarm()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_run(tmp_path_factory.mktemp("site") / "made", examine=lambda flat: EXAMINED)


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    """A finished run of its own for each test."""
    return Site(Path(shutil.copytree(made.folder, tmp_path / "site")))


def files(site: Site) -> dict[str, bytes]:
    return {name: (site.run / name).read_bytes() for name in HANDED_ON if (site.run / name).exists()}


def card(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site.run / name).read_bytes())
    return found


def finish(site: Site, examine: Examine = lambda flat: EXAMINED) -> list[str]:
    """Do what a coordinator does that finds a run with all its rounds; return what it says."""
    with closing(RunStore(site.run)) as store:
        run = Run(site, settings(), store, Retention(), examine)
        run.record.publish()
        run.record.finish()
        seal_run(store, RecordSigner(site.certs))
    return run.notices


def findings(site: Site) -> list[str]:
    return [str(each) for each in inspect(site.run, read_model=read_model, check_signature=site.check).findings]


def test_a_finished_run_hands_on_calibrated_models_with_their_cards(site: Site) -> None:
    for name, number, kind in (("final", 2, "the last"), ("best", 1, "the best by validation")):
        saved = load(site.run / f"{name}.pth").facts
        assert (saved.extra, saved.round, saved.run) == (FITTED, number, "0123456789abcdef")
        model = card(site, f"{name}.card.json")["model"]
        assert (model["file"], model["round"], model["kind"]) == (f"{name}.pth", number, kind)
        assert model["sha256"] == read_model(site.run / f"{name}.pth").sha256
        assert model["same_model_as"] is None
        assert (site.run / f"{name}.card.md").read_text().startswith(f"# Model card of {name}.pth\n")
    with closing(RunStore(site.run)) as store:
        assert card(site, "best.card.json")["run"]["last_record"] == store.records()[-1].digest
    assert load(site.run / "checkpoints" / "round-0002.pth").facts.extra == {}, "what a round committed stays as it is"


def test_a_run_with_cards_is_as_it_was_signed_and_a_changed_card_is_found(site: Site) -> None:
    found = inspect(site.run, read_model=read_model, check_signature=site.check)
    assert (found.findings, found.models, found.sealed) == ((), 5, 17)
    path = site.run / "final.card.md"
    path.write_text(path.read_text().replace("not a medical device", "a medical device"))
    assert findings(site) == ["file final.card.md: changed since the run was sealed"]


def test_a_run_that_an_older_version_finished_is_as_it_was_signed_and_gets_its_cards_later(tmp_path: Path) -> None:
    site = make_run(tmp_path / "site")
    assert sorted(files(site)) == ["best.pth", "final.pth"]
    assert findings(site) == []
    (site.run / "final.card.md").write_text("# Model card\n")
    assert findings(site) == ["file final.card.md: new: it was not there when the run was sealed"]
    finish(site)
    assert sorted(files(site)) == sorted(HANDED_ON)
    assert findings(site) == []


def test_finishing_again_changes_nothing(site: Site) -> None:
    before = files(site)
    assert finish(site) == []
    assert files(site) == before
    assert findings(site) == []


@pytest.mark.parametrize("place", ["disk.create", "disk.rename", "disk.sync-folder"])
def test_a_finish_that_is_cut_short_anywhere_is_made_up_for(site: Site, place: str) -> None:
    before, hit = files(site), 0
    with closing(RunStore(site.run)) as store:
        record = Run(site, settings(), store, Retention(), lambda flat: EXAMINED).record
        while True:
            hit += 1
            failpoints.arm(f"{place}:fail:{hit}")
            try:
                record.finish()
            except StorageError:
                assert read_model(site.run / "final.pth").round == 2
                failpoints.disarm()
                continue
            failpoints.disarm()
            break
    assert hit > 6, "two models and four cards"
    assert files(site) == before


def test_a_model_is_there_before_it_is_looked_at(tmp_path: Path) -> None:
    def interrupted(flat: object) -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        make_run(tmp_path / "site", examine=interrupted)
    site = Site(tmp_path / "site")
    assert load(site.run / "final.pth").facts.extra == {}
    assert not (site.run / SEAL).exists()
    finish(site)
    assert findings(site) == []


def test_a_best_model_that_is_the_last_is_looked_at_once_and_said_to_be_the_same(tmp_path: Path) -> None:
    looks = []
    site = make_run(
        tmp_path / "site",
        run_settings=settings(rounds=1),
        examine=lambda flat: looks.append(flat) or EXAMINED,  # type: ignore[func-returns-value]
    )
    assert len(looks) == 1
    assert card(site, "final.card.json")["model"]["same_model_as"] == "best.pth"
    assert card(site, "best.card.json")["model"]["same_model_as"] == "final.pth"


def test_a_model_that_cannot_be_calibrated_is_handed_on_as_it_is_and_that_is_said(site: Site) -> None:
    said = finish(site, lambda flat: not_calibrated("its outputs are not finite"))
    assert said == [
        f"{site.run / name} is not calibrated: its outputs are not finite" for name in ("final.pth", "best.pth")
    ]
    assert load(site.run / "final.pth").facts.extra == {}
    assert card(site, "final.card.json")["calibration"]["fitted"] is None
    assert findings(site) == []


def test_a_best_model_that_may_change_has_no_card(site: Site) -> None:
    with closing(RunStore(site.run)) as store:
        Run(site, settings(rounds=3), store, Retention(), lambda flat: EXAMINED).record.publish()
    assert sorted(files(site)) == ["best.pth", "final.card.json", "final.card.md", "final.pth"]
    assert load(site.run / "best.pth").facts.extra == {}
