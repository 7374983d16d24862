import json
from pathlib import Path

import pytest

from fednet.commands import training_speed
from models import checkpoint
from tests.commands.running import run


def test_krum_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "bench", "krum", "--workers", "5,6", "--dim", "3000", "--repeats", "1", "--json")
    assert ran.code == 0
    document = json.loads(ran.out)
    assert [run["workers"] for run in document["runs"]] == [5, 6]


@pytest.mark.parametrize("source", [(), ("--from-spool",)])
def test_krum_prints_a_table_with_what_its_columns_mean(
    capsys: pytest.CaptureFixture[str], source: tuple[str, ...]
) -> None:
    ran = run(capsys, "bench", "krum", "--workers", "5", "--dim", "3000", "--repeats", "1", *source)
    assert ran.code == 0
    assert "ratio" in ran.out
    assert "whole: s: distances, Multi-Krum's plan and the weighted sum" in ran.out


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_training_is_measured_beside_a_bare_loop(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    monkeypatch.setattr(training_speed, "_SETTLED_S", 0.0)
    monkeypatch.setattr(training_speed, "_FILE_PIXELS", 32)
    small = ("--model", "small-cnn", "--image-size", "16", "--images", "9", "--batch-size", "4", "--device", "cpu")
    ran = run(capsys, "bench", "train", *small, "--epochs", "2", "--repeats", "1", *form)
    assert ran.code == 0, ran.err
    if not form:
        assert "small-cnn at 16 pixels, batches of 4, float32 on cpu (" in ran.out
        return
    document = json.loads(ran.out)
    assert {"bench", "machine", "settings", "samples", "ours", "reference", "ratio", "meaning"} <= set(document)
    assert {name: len(samples) for name, samples in document["samples"].items()} == {"ours": 2, "reference": 2}
    assert document["ours"] == pytest.approx(9 / document["parts"]["epoch"])
    assert {"step", "assembling", "augmentation", "bookkeeping", "set_up", "bare"} <= set(document["parts"])
    assert document["start"]["files"] == 9
    assert min(document["start"].values()) > 0
    assert document["processor_ratio"] > 0
    assert document["gpu"] is None


@pytest.mark.timeout(400)  # Opacus on one core
def test_hospitals_of_a_bench_may_train_under_differential_privacy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--model", "resnet18-gn", "--image-size", 16, "--rounds", 1, "--seeds", 1, "--device", "cpu"]
    few = ["--local-epochs", 0.1, "--balance", "none", "--settings", "2"]
    arguments = ["bench", "learning", *small, *few, "--dp-epsilon", 8]
    ran = run(capsys, *arguments, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert found["settings"]["privacy"] == {"epsilon": 8.0, "delta": 1e-5, "clip": 1.0}
    assert [each["setting"] for each in found["lines"]] == ["4 sites, i.i.d."]
    assert 0 < found["lines"][0]["epsilon"] <= 8
    plain = run(capsys, *arguments[:-2], "--out", tmp_path / "out")
    assert plain.code == 2, "results with privacy and without do not mix"
    batch_norm = run(capsys, *arguments, "--model", "small-cnn", "--out", tmp_path / "other")
    assert batch_norm.code == 2
    assert "BatchNorm mixes scans" in batch_norm.err


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_updates_are_attacked_without_privacy_and_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
) -> None:
    small = ("--image-size", 32, "--examples", 2, "--steps", 2, "--out", tmp_path / "out" / "rebuilt.png")
    ran = run(capsys, "bench", "inversion", *small, *form)
    assert ran.code == 0, ran.err
    assert (tmp_path / "out" / "rebuilt.png").stat().st_size > 1000
    if not form:
        assert "privacy: epsilon 8, delta 1e-05, clip 1: noise of 0.638 times the clip on every weight" in ran.out
        return
    document = json.loads(ran.out)
    assert {"bench", "machine", "settings", "samples", "ours", "reference", "ratio", "meaning"} <= set(document)
    assert [each["hospital"] for each in document["samples"]] == [1, 2]
    for kind, name in (("plain", "ours"), ("private", "private"), ("guess", "reference")):
        assert document[name] == pytest.approx(sum(each[kind]["mse"] for each in document["samples"]) / 2)


def test_a_model_that_cannot_be_trained_privately_is_attacked_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--model", "small-cnn", "--image-size", 32, "--batch-size", 2, "--examples", 1, "--steps", 2)
    ran = run(capsys, "bench", "inversion", *small, "--out", tmp_path / "rebuilt.png")
    assert ran.code == 0, ran.err
    assert "small-cnn, whose BatchNorm mixes scans" in ran.out
    alone = run(capsys, "bench", "inversion", "--model", "small-cnn", "--image-size", 32, "--batch-size", 1)
    assert (alone.code, "BatchNorm needs 2 at once" in alone.err) == (1, True)


def test_counts_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "bench", "krum", "--workers", "ten")
    assert ran.code == 2
    assert "--workers; found ten" in ran.err


def test_learning_is_compared_with_pooled_scans_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--model", "small-cnn", "--image-size", 16, "--rounds", 1, "--seeds", 1, "--device", "cpu"]
    arguments = ["bench", "learning", *small, "--settings", "1,2", "--out", tmp_path / "out"]
    ran = run(capsys, *arguments, "--json")
    assert ran.code == 0, ran.err
    lines = json.loads(ran.out)["lines"]
    assert [each["setting"] for each in lines] == ["centralised", "4 sites, i.i.d."]
    assert lines[1]["behind"]["value"] == pytest.approx(lines[1]["accuracy"] - lines[0]["accuracy"])
    models = sorted((tmp_path / "out").glob("*.pth"))
    assert [checkpoint.load(path).facts.model for path in models] == ["small-cnn"] * 2
    again = run(capsys, *arguments, "--json")
    assert json.loads(again.out)["lines"] == lines
    assert "round 1" not in again.err
    wrong = (["--settings", "9"], ["--attack", "sing-flip"], ["--aggregator", "tournament"])
    assert [run(capsys, *arguments, *each).code for each in wrong] == [2, 2, 2]
    sides = [json.loads(path.read_text())["sites"] for path in sorted((tmp_path / "out" / "data").glob("*/split.json"))]
    trained_on = [sum(sum(counts) for name, counts in each.items() if name.startswith("client")) for each in sides]
    assert len(trained_on) == 2
    assert len(set(trained_on)) == 1, "the same scans, pooled and spread"
    assert "behind centralised" in run(capsys, *arguments).out
