import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fednet.audit.verification import Verified
from fednet.commands import wiring
from fednet.commands.verify import read_model
from fednet.config import RunSettings, ServerSettings, TrainingSettings
from fednet.coordinator.inspection import inspect
from fednet.coordinator.record import Retention
from fednet.coordinator.replay import Replay, Replayed, verdict_findings
from tests.audit.finished import Site, make_run, settings

ROBUST = settings(
    rounds=4,
    workers=5,
    quorum=5,
    byzantine=1,
    aggregator="multikrum",
    reputation_window=2,
    quarantine=2,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A run of four rounds in which client5 lies, and is left out from the third on."""
    return make_run(tmp_path_factory.mktemp("site") / "made", run_settings=ROBUST, liars=["client5"])


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    return Site(Path(shutil.copytree(made.folder, tmp_path / "site")))


def verified(site: Site) -> Verified:
    found = inspect(site.run, read_model=read_model, check_signature=site.check).verified
    assert found is not None
    return found


def replayed(site: Site, run_settings: RunSettings = ROBUST, *, found: Verified | None = None) -> list[Replayed]:
    network = wiring.new_model("small-cnn", seed=0, pretrained="no", weights=None, notice=lambda text: None)
    manifest = wiring.manifest_for(network)

    load = wiring.CheckpointWriter(run_settings, manifest).load_server
    replay = Replay(folder=site.run, settings=run_settings, manifest=manifest, load=load)
    return list(replay.rounds(found or verified(site)))


def test_kept_updates_make_the_same_models_and_verdicts_again(site: Site) -> None:
    documents = verified(site).documents
    assert [each["updates"][4]["quarantined"] for each in documents] == [False, False, True, True]
    assert replayed(site) == [Replayed(round=number) for number in (1, 2, 3, 4)]


def test_nothing_is_written_into_the_run(site: Site) -> None:
    before = sorted(site.run.rglob("*"))
    replayed(site)
    assert sorted(site.run.rglob("*")) == before


@pytest.mark.parametrize("form", ["zstd", "bf16", "int8+zstd"])
def test_updates_that_travelled_in_another_form_are_decoded(tmp_path: Path, form: str) -> None:
    compressed = settings(compress=form)
    site = make_run(tmp_path / "site", run_settings=compressed)
    assert replayed(site, compressed) == [Replayed(round=1), Replayed(round=2)]


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam"])
def test_what_the_servers_optimiser_remembers_is_kept_with_each_model(tmp_path: Path, optimizer: str) -> None:
    server = ServerSettings(optimizer=optimizer, learning_rate=0.5)
    remembering = settings(rounds=3, server=server, training=TrainingSettings(momentum=0.0))
    site = make_run(tmp_path / "site", run_settings=remembering)
    found = verified(site)
    assert replayed(site, remembering, found=found) == [Replayed(round=number) for number in (1, 2, 3)]
    (site.run / "checkpoints" / "round-0001.pth").unlink()
    assert replayed(site, remembering, found=found) == [Replayed(round=number) for number in (1, 2, 3)]
    shutil.rmtree(site.run / "spool" / "round-0001")
    later = replayed(site, remembering, found=found)
    assert [bool(each.skipped) for each in later] == [True, True, False]


def test_a_step_that_the_guard_refused_moves_neither_model_nor_optimiser(tmp_path: Path) -> None:
    guarded = settings(rounds=3, guard=0.1, server=ServerSettings(optimizer="momentum"))
    site = make_run(tmp_path / "site", run_settings=guarded, refused=[2])
    assert replayed(site, guarded) == [Replayed(round=number) for number in (1, 2, 3)]
    assert verified(site).documents[0]["model_sha256"] == verified(site).documents[1]["model_sha256"]


@pytest.mark.parametrize("pre", [("similarity",), ("norm-clipping", "similarity"), ("norm-clipping", "nnm")])
def test_screens_and_clipping_make_the_same_verdicts_again(tmp_path: Path, pre: tuple[str, ...]) -> None:
    screened = settings(rounds=3, workers=5, quorum=5, byzantine=1, pre=pre)
    site = make_run(tmp_path / "site", run_settings=screened, liars=["client5"])
    again = [document["updates"][4]["reason"] for document in verified(site).documents[1:]]
    assert all(("sent again: client5's update of round 1" in reason) is ("similarity" in pre) for reason in again)
    for asked in (screened, replace(screened, rounds=9)):  # of other settings what was recorded holds
        assert replayed(site, asked) == [Replayed(round=number) for number in (1, 2, 3)]


def test_another_update_makes_another_model(site: Site) -> None:
    folder = site.run / "spool/round-0002"
    shutil.copyfile(folder / "client5.update", folder / "client1.update")
    first, second, third, _ = replayed(site)
    assert first.findings == third.findings == (), "the third goes on from the kept model of the second"
    assert next((each.round, each.field) for each in second.findings) == (2, "replayed model_after")


def test_an_update_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    compressed = settings(compress="zstd")
    site = make_run(tmp_path / "site", run_settings=compressed)
    (site.run / "spool/round-0001/client1.update").write_bytes(b"no frame")
    first, second = replayed(site, compressed)
    assert [each.field for each in first.findings] == ["replay"]
    assert second.findings == ()


def test_rounds_that_lack_their_updates_or_the_model_before_are_said(site: Site) -> None:
    found = verified(site)
    shutil.rmtree(site.run / "spool/round-0002")
    (site.run / "checkpoints/round-0002.pth").unlink()
    assert [each.skipped for each in replayed(site, found=found)] == [
        "",
        "its updates were not kept",
        "the model before it was not kept",
        "",
    ]


def test_a_model_before_that_is_another_one_is_not_gone_on_from(site: Site) -> None:
    found = verified(site)
    shutil.rmtree(site.run / "spool/round-0001")
    shutil.copyfile(site.run / "checkpoints/round-0003.pth", site.run / "checkpoints/round-0001.pth")
    assert [each.skipped for each in replayed(site, found=found)][:2] == [
        "its updates were not kept",
        "the model before it is not the one that was kept",
    ]


def test_a_quarantine_under_settings_of_before_is_taken_as_it_was_recorded(site: Site) -> None:
    later = replace(ROBUST, rounds=9, quarantine=1)
    assert replayed(site, later) == [Replayed(round=number) for number in (1, 2, 3, 4)]


def test_a_run_without_kept_updates_cannot_be_replayed(tmp_path: Path) -> None:
    site = make_run(tmp_path / "site", retention=Retention())
    assert {each.skipped for each in replayed(site, settings())} == {"its updates were not kept"}


def test_measured_numbers_may_differ_in_their_last_digits() -> None:
    update = {"worker": "client1", "selected": True, "quarantined": False, "reason": "selected", "weight": 0.5}
    recorded = {"byzantine": 1, "updates": [update | {"score": 1.0, "norm": 2.0, "cosine": None}]}
    near = {"byzantine": 1, "updates": [update | {"score": 1.0 + 1e-9, "norm": 2.0, "cosine": None}]}
    far = {"byzantine": 0, "updates": [update | {"score": 1.1, "norm": 2.0, "cosine": 0.5, "selected": False}]}
    assert verdict_findings(1, near, recorded) == []
    assert [each.field for each in verdict_findings(1, far, recorded)] == [
        "byzantine",
        "replayed updates.client1.cosine",
        "replayed updates.client1.score",
        "replayed updates.client1.selected",
    ]
