import json
from pathlib import Path

import pytest

from models.checkpoint import load
from tests.commands.running import run


def test_the_baseline_trains_saves_its_best_and_can_be_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--phantoms", "--phantom-images", "120", "--phantom-size", "32", "--clients", "2", "--out", tmp_path]
    assert run(capsys, "split", *data).code == 0
    model = tmp_path / "local.pth"
    sites = [tmp_path / "client1_data", tmp_path / "client2_data"]
    settings = ["--model", "small-cnn", "--image-size", "32", "--device", "cpu"]
    settings += ["--rounds", "4", "--local-epochs", "0.5", "--batch-size", "16"]
    arguments = ["train-local", *sites, "--server-data", tmp_path / "server_data", *settings, "--save", model, "--json"]
    ran = run(capsys, *arguments)
    assert ran.code == 0, ran.err
    assert "round 2 of 2: " in ran.err
    rounds = json.loads(ran.out)["rounds"]
    assert [each["round"] for each in rounds] == [1, 2]
    again = json.loads(run(capsys, *arguments).out)["rounds"]
    assert [each["test"] for each in again] == [each["test"] for each in rounds]

    saved, card = load(model).facts, json.loads((tmp_path / "local.card.json").read_text())
    assert {"temperature", "threshold", "max_energy"} <= saved.extra.keys()
    assert card["model"]["round"] == saved.round
    assert [(each["site"], each["samples"]) for each in card["data"]["sites"]] == [(each.name, 44) for each in sites]
    assert "byzantine" not in card["training"]["settings"]
    assert "| glioma | meningioma |" in (tmp_path / "local.card.md").read_text()

    judged = json.loads(
        run(capsys, "evaluate", "--model", model, "--data", tmp_path / "server_data" / "test", "--json").out
    )
    best = max(rounds, key=lambda each: each["validation"]["macro_f1"])
    assert judged["accuracy"] == best["test"]["accuracy"]
    assert {"balanced_accuracy", "macro_f1", "per_class", "confusion", "images"} <= judged.keys()
    assert "recall" in run(capsys, "evaluate", "--model", model, "--data", tmp_path / "server_data" / "test").out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "no such folder"),
        (["nowhere", "--lr", "-1"], "--lr"),
        (["nowhere", "--model", "vgg"], "small-cnn"),
        (["nowhere", "--device", "toaster"], "--device"),
        (["nowhere", "--freeze-until", "layer9"], "layer4"),
        (["nowhere", "--freeze-until", "fc"], "nothing to train"),
    ],
)
def test_wrong_use_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    ran = run(capsys, "train-local", *arguments, "--pretrained", "no")
    assert ran.code == 2
    assert complaint in ran.err
    assert len(ran.err.splitlines()) == 1
