import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from data.classes import CLASSES
from data.holdout import hold_out
from data.images import load_folder
from data.phantoms import write_phantoms
from fednet.commands.gains_inputs import divided
from models import checkpoint
from models.checkpoint import CheckpointFacts
from tests.commands.running import Ran, run
from tests.data.scans import write_folder
from tests.models.saved import write_model

SIZE = 32
TRAINING = ("--rounds", 2, "--local-epochs", 1, "--batch-size", 16, "--lr", 0.02)
QUICK = (*TRAINING, "--tune-epochs", 1, "--hold-out", 0.3, "--pretrained", "no")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hospitals of 72 phantoms, a test set of 40, and a model of these classes: `final.pth`."""
    folder = tmp_path_factory.mktemp("place")
    for number in (1, 2):
        write_phantoms(folder, training=72, testing=40, seed=number, size=SIZE)
        (folder / "Training").rename(folder / f"client{number}_data")
    (folder / "Testing").rename(folder / "unseen")
    write_model(folder / "final.pth", image_size=SIZE)
    return folder


def gains(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    return run(capsys, "gains", *arguments, "--device", "cpu", "--no-cache")


def document_of(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert isinstance(document, dict)
    return document


def own_model(path: Path, model: Path, *, samples: int, run_of: str = "test") -> Path:
    """What a worker saves of its training: the global model with other facts."""
    saved = checkpoint.load(model)
    facts = CheckpointFacts(
        model="small-cnn", classes=CLASSES, image_size=SIZE, run=run_of, round=3, extra={"samples": samples}
    )
    checkpoint.save(path, saved.state, facts)
    return path


def test_each_site_gets_its_models_judged_on_its_own_scans_and_on_a_test_set(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, test, saved = place / "final.pth", place / "unseen", tmp_path / "models"
    sites = [place / "client1_data", place / "client2_data"]
    ran = gains(capsys, *sites, "--model", model, "--test", test, *QUICK, "--save-dir", saved, "--json")
    found = document_of(ran)
    assert [(each["name"], each["scans"], each["trained_on"]) for each in found["sites"]] == [
        ("client1", 72, 52),
        ("client2", 72, 52),
    ]
    assert found["settings"]["training"]["learning_rate"] == 0.02
    assert (found["tuning"]["learning_rate"], found["tuning"]["local_epochs"]) == (pytest.approx(0.002), 1)
    assert {"byzantine", "aggregator"}.isdisjoint(found["settings"])
    for name, images in (("held_out", 20), ("test", 40)):
        for site in found["sites"]:
            stood = site[name]
            assert stood["images"] == images
            assert list(stood["scores"]) == ["alone", "global", "tuned"]
            gained = stood["scores"]["global"]["accuracy"] - stood["scores"]["alone"]["accuracy"]
            interval = stood["gains"]["global_less_alone"]["accuracy"]
            assert interval["value"] == pytest.approx(gained)
            assert interval["low"] <= interval["value"] <= interval["high"]
        mean = found["mean"][name]
        each = [site[name]["scores"]["tuned"]["macro_f1"] for site in found["sites"]]
        assert mean["scores"]["tuned"]["macro_f1"] == pytest.approx(sum(each) / 2)
        assert mean["sites"] == {"accuracy": 2, "macro_f1": 2}
    (said,) = found["warnings"]
    assert "--hold-out 0.3" in said
    assert f"Warning: {said}" in ran.err

    for site in found["sites"]:
        for kind in ("alone", "tuned"):
            arguments = ("--model", saved / f"{site['name']}.{kind}.pth", "--data", test, "--resamples", 0)
            judged = document_of(run(capsys, "evaluate", *arguments, "--device", "cpu", "--no-cache", "--json"))
            assert judged["accuracy"] == site["test"]["scores"][kind]["accuracy"]
            assert judged["macro_f1"] == site["test"]["scores"][kind]["macro_f1"]
    assert checkpoint.load(saved / "client1.tuned.pth").facts.run == "test"
    again = gains(capsys, *sites, "--model", model, "--test", test, *QUICK, "--json")
    assert document_of(again) == found, "seeded"


def test_people_get_a_table_for_each_set_of_scans_and_the_doubt(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_model(tmp_path / "client_1.pth", place / "final.pth", samples=52)
    arguments = (place / "client1_data", "--model", place / "final.pth", "--own", own, *QUICK)
    ran = gains(capsys, *arguments, "--test", place / "unseen")
    assert ran.code == 0, ran.err
    for words in (
        "held out at each site",
        "On 40 scans of",
        "alone",
        "global",
        "tuned",
        "own",
        "20 of 72",
        "mean of 1",
    ):
        assert words in ran.out
    tables = ran.out.split("alone: trained on")[0]
    assert max(map(len, tables.splitlines())) <= 80
    (said,) = [line for line in ran.err.splitlines() if line.startswith("Warning")]
    assert "which cannot be known here" in said


def test_a_hospitals_own_model_is_judged_beside_and_tells_of_what_it_was_trained_on(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = place / "final.pth"
    other = own_model(tmp_path / "client_1.pth", model, samples=72, run_of="another")
    fitting = own_model(tmp_path / "client_2.pth", model, samples=52)
    sites = [place / "client1_data", place / "client2_data"]
    found = document_of(gains(capsys, *sites, "--model", model, "--own", other, "--own", fitting, *QUICK, "--json"))
    for site in found["sites"]:
        assert site["held_out"]["scores"]["own"] == site["held_out"]["scores"]["global"], "they are one model here"
        assert site["test"] is None
    assert found["mean"]["test"] is None
    _, run_of, samples = found["warnings"]
    assert run_of == "client1's own model is of another run than --model"
    assert "trained on 72 scans, not on the 52" in samples


def test_without_scans_to_hold_out_a_site_is_the_baseline_of_train_local(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_folder(tmp_path / "client7_data", 3)
    server = tmp_path / "server_data"
    shutil.copytree(place / "unseen", server / "test")
    shutil.copytree(place / "unseen", server / "validation")
    arguments = ("--test", server / "test", *QUICK, "--json")
    found = document_of(gains(capsys, small, "--model", place / "final.pth", *arguments))
    (site,) = found["sites"]
    assert site["held_out"] is None
    assert (site["scans"], site["trained_on"]) == (12, 12)
    assert found["mean"]["held_out"] is None
    assert "client7 has too few scans" in found["warnings"][-1]
    settings = ("--model", "small-cnn", "--image-size", SIZE, *TRAINING, "--pretrained", "no", "--device", "cpu")
    trained = document_of(run(capsys, "train-local", small, "--server-data", server, *settings, "--no-cache", "--json"))
    last = trained["rounds"][-1]["test"]
    assert site["test"]["scores"]["alone"] == {"accuracy": last["accuracy"], "macro_f1": last["macro_f1"]}
    said = gains(capsys, small, "--model", place / "final.pth", *QUICK)
    assert said.code == 0, said.err
    assert "0 of 12" in said.out


def test_a_class_of_few_scans_leaves_macro_f1_unsaid(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model", place / "final.pth", *QUICK, "--hold-out", 0.2, "--json")
    found = document_of(gains(capsys, place / "client1_data", *arguments))
    (site,) = found["sites"]
    assert site["held_out"]["images"] == 12
    assert site["held_out"]["scores"]["global"]["macro_f1"] is None
    assert site["held_out"]["gains"]["tuned_less_global"]["macro_f1"] is None
    assert found["mean"]["held_out"]["sites"] == {"accuracy": 1, "macro_f1": 0}
    assert "fewer than 5 scans of glioma" in found["warnings"][-1]


def test_scans_are_divided_as_the_worker_of_that_name_divides_them(place: Path) -> None:
    folder = place / "client1_data"
    scans = load_folder(folder, image_size=SIZE)
    training, held = hold_out(folder, scans, share=0.3, worker="client1")
    found = divided(folder, scans, share=0.3, name="client1")
    assert found.held_out is not None
    assert torch.equal(found.held_out.images, held.images)
    assert torch.equal(found.training.images, training.images)
    other = divided(folder, scans, share=0.3, name="client2")
    assert other.held_out is not None
    assert not torch.equal(other.held_out.images, held.images)


def test_names_come_from_the_folders_or_are_given(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hospital"
    shutil.copytree(place / "client1_data", folder)
    model = ("--model", place / "final.pth", *QUICK)
    named = document_of(gains(capsys, folder, *model, "--name", "1", "--json"))
    assert named["sites"][0]["name"] == "client1"
    unnamed = gains(capsys, folder, *model)
    assert unnamed.code == 2
    assert unnamed.err.startswith("Error: --name; found none, and no number in 'hospital'")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--name", "a"], "--name; found 1 for 2 folders"),
        (["--name", "1", "--name", "client1"], "found one of them twice"),
        (["--name", "a b", "--name", "c"], "worker name"),
        (["--own", "client_1.pth"], "--own; found 1 for 2 folders"),
        (["--own", "final.pth", "--own", "final.pth"], "a model that no worker saved"),
        (["--own", "resnet.pth", "--own", "resnet.pth"], "found a resnet18 for 32 pixels"),
        (["--hold-out", "0.9"], "--hold-out; found 0.9"),
        (["--tune-epochs", "-1"], "--tune-epochs"),
        (["--tune-lr", "0"], "--tune-lr"),
        (["--tune-freeze-until", "layer9"], "--tune-freeze-until layer9"),
        (["--freeze-until", "layer9"], "--freeze-until layer9"),
        (["--rounds", "0"], "--rounds"),
        (["--test", "nowhere"], "no such folder"),
        (["--model", "nowhere.pth"], "nowhere.pth"),
        (["--model", "colours.pth"], "found classes red, green"),
        (["--device", "toaster"], "--device"),
        (["--cache", "here"], "--no-cache"),
    ],
)
def test_wrong_use_is_one_line(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(place / "final.pth", tmp_path)
    facts = CheckpointFacts(model="resnet18", classes=CLASSES, image_size=SIZE)
    checkpoint.save(tmp_path / "resnet.pth", {}, facts)
    checkpoint.save(
        tmp_path / "colours.pth", {}, CheckpointFacts(model="small-cnn", classes=("red", "green"), image_size=SIZE)
    )
    ran = run(
        capsys,
        "gains",
        place / "client1_data",
        place / "client2_data",
        "--model",
        "final.pth",
        *QUICK,
        "--no-cache",
        *arguments,
    )
    assert ran.code == 2
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1
