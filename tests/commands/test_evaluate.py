import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from data.classes import CLASSES
from data.phantoms import write_phantoms
from data.splitting import SplitSettings
from fednet.reporting.metrics import evaluate, logits_of
from models import checkpoint
from tests.commands.running import Ran, run
from tests.models.saved import write_model


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of phantoms, `Testing` and `Held`, which is `Training` under a name that says nothing."""
    folder = tmp_path_factory.mktemp("scans")
    write_phantoms(folder, training=48, testing=40, seed=0, size=32)
    (folder / "Training").rename(folder / "Held")
    return folder


def judged(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    return run(capsys, "evaluate", *arguments, "--device", "cpu", "--no-cache")


def document_of(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert isinstance(document, dict)
    return document


def another(path: Path, model: Path) -> Path:
    """The same model with its last layer turned a little."""
    saved = checkpoint.load(model)
    state = dict(saved.state)
    generator = torch.Generator().manual_seed(1)
    state["fc.weight"] = state["fc.weight"] + 0.5 * torch.randn(state["fc.weight"].shape, generator=generator)
    checkpoint.save(path, state, saved.facts)
    return path


def test_one_model_is_judged_with_intervals(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "a.pth")
    found = document_of(judged(capsys, "--model", model, "--data", scans / "Testing", "--resamples", 200, "--json"))
    assert found["images"] == 40
    assert set(found["per_class"]) == set(CLASSES)
    for name in ("accuracy", "macro_f1", "macro_auc", "balanced_accuracy"):
        interval = found["intervals"][name]
        assert interval["value"] == pytest.approx(found[name])
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert found["calibration"]["from"] == "none"
    assert found["calibration"]["ece"]["before"] == found["calibration"]["ece"]["after"]
    assert found["tumour"]["own"]["specificity"]["value"] >= 0.95
    assert found["warnings"] == []
    said = judged(capsys, "--model", model, "--data", scans / "Testing", "--resamples", 200).out
    for words in ("recall", "Confusion", "macro F1", "uncalibrated", "any tumour against none", "95 % intervals"):
        assert words in said


def test_figures_are_those_of_every_round(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from data.images import load_folder
    from data.loaders import ScanLoader

    model = write_model(tmp_path / "a.pth", extra={"temperature": 3.0})
    arguments = ("--model", model, "--data", scans / "Testing", "--resamples", 0, "--json")
    found = document_of(judged(capsys, *arguments))
    network = checkpoint.load(model).build()
    data = ScanLoader(load_folder(scans / "Testing", image_size=32), torch.device("cpu"))
    metrics = evaluate(network, data, classes=CLASSES).to_dict()
    assert {name: found[name] for name in metrics} == metrics
    logits, _ = logits_of(network, data)
    assert logits.dtype == torch.float64
    assert found["calibration"]["temperature"] == 3.0
    assert found["calibration"]["from"] == "checkpoint"
    assert found["calibration"]["loss"]["before"] == metrics["loss"] != found["calibration"]["loss"]["after"]
    assert found["intervals"] is None


def test_validation_calibrates_and_the_test_set_does_not(
    tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "a.pth", extra={"temperature": 3.0})
    held, testing = scans / "Held", scans / "Testing"
    arguments = ("--model", model, "--validation", held, "--resamples", 0, "--specificity", 0.8)
    found = document_of(judged(capsys, *arguments, "--data", testing, "--json"))
    assert found["calibration"]["from"] == "validation"
    assert found["calibration"]["temperature"] not in (1.0, 3.0)
    assert found["calibration"]["loss"]["after"] < found["calibration"]["loss"]["before"]
    assert found["tumour"]["specificity"] == 0.8
    assert found["tumour"]["fixed"]["threshold"] != found["tumour"]["own"]["threshold"]
    said = judged(capsys, *arguments, "--data", testing).out
    assert "fitted on --validation" in said
    assert "as validation chooses" in said
    assert "unlike validation's" in said
    same = judged(capsys, *arguments, "--data", held / ".." / "Held")
    assert same.code == 2
    assert "--validation" in same.err
    assert len(same.err.splitlines()) == 1


def test_images_on_both_sides_are_counted(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "a.pth")
    copy = tmp_path / "copy"
    write_phantoms(tmp_path, training=8, testing=40, seed=0, size=32)
    (tmp_path / "Testing").rename(copy)
    arguments = ("--model", model, "--data", scans / "Testing", "--validation", copy, "--resamples", 0, "--json")
    (said,) = document_of(judged(capsys, *arguments))["warnings"]
    assert said.startswith("40 of 40 images")


def test_two_models_are_compared_on_the_same_images(
    tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_model(tmp_path / "a.pth")
    second = another(tmp_path / "b.pth", first)
    arguments = ("--model", first, "--model", second, "--data", scans / "Testing", "--resamples", 200)
    found = document_of(judged(capsys, *arguments, "--json"))
    assert [each["model"] for each in found["models"]] == [str(first), str(second)]
    (pair,) = found["differences"]
    gained = found["models"][1]["accuracy"] - found["models"][0]["accuracy"]
    assert pair["difference"]["accuracy"]["value"] == pytest.approx(gained)
    told = pair["disagreement"]
    assert told["only_second"] - told["only_first"] == round(40 * gained)
    assert 0 <= told["p_value"] <= 1
    ran = judged(capsys, *arguments, "--plot", tmp_path / "picture.png")
    assert "McNemar" in ran.out
    assert "recall of glioma" in ran.out
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.height > picture.width


def test_outputs_that_are_not_finite_are_said(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "a.pth")
    saved = checkpoint.load(model)
    saved.state["fc.bias"][1] = float("nan")
    checkpoint.save(model, saved.state, saved.facts)
    ran = judged(capsys, "--model", model, "--data", scans / "Testing", "--resamples", 100, "--json")
    found = document_of(ran)
    assert "not finite" in found["warnings"][0]
    assert "Warning" in ran.err
    assert found["confusion"][1] == [10, 0, 0, 0]
    refused = judged(capsys, "--model", model, "--data", scans / "Testing", "--validation", scans / "Held")
    assert refused.code == 2
    assert "not finite" in refused.err


def test_the_published_test_set_is_warned_of(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, data = write_model(tmp_path / "a.pth"), tmp_path / "split" / "server_data" / "test"
    shutil.copytree(scans / "Testing", data)
    arguments = {"test_from": SplitSettings.test_from, "dataset": "brain-tumor-mri"}
    sites = {"server_data/test": [10, 10, 10, 10]}
    (tmp_path / "split" / "split.json").write_text(json.dumps({"arguments": arguments, "sites": sites}))
    ran = judged(capsys, "--model", model, "--data", data, "--resamples", 0, "--json")
    (said,) = document_of(ran)["warnings"]
    assert "resplit" in said
    assert f"Warning: {said}" in ran.err


def test_phantoms_are_published_without_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "split", "--phantoms", "--phantom-images", 40, "--phantom-size", 16, "--out", tmp_path)
    assert ran.code == 0, ran.err
    model = write_model(tmp_path / "a.pth", image_size=16)
    arguments = ("--model", model, "--resamples", 0, "--json")
    assert document_of(judged(capsys, *arguments, "--data", tmp_path / "server_data" / "test"))["warnings"] == []
    (said,) = document_of(judged(capsys, *arguments, "--data", tmp_path / "client1_data"))["warnings"]
    assert "client1_data of its split" in said


def test_wrong_use_is_one_line(tmp_path: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "a.pth")
    few = judged(capsys, "--model", model, "--data", scans / "Testing", "--resamples", 5)
    assert few.code == 2
    assert "--resamples 5" in few.err
    assert judged(capsys, "--model", tmp_path / "nowhere.pth", "--data", scans / "Testing").code == 2
