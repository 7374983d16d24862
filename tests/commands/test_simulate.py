import json
from pathlib import Path

import pytest

from tests.commands.running import run

PRIVATE = ["--client-dp-clip", 1, "--client-dp-noise", 2]
SMALL = ["--workers", 5, "--byzantine", 1, "--rounds", 1, "--local-epochs", 1, "--image-size", 16, "--root", 16]


def test_a_grid_is_run_drawn_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--attack", "none,sign-flip", "--aggregator", "fedavg,nnm+multikrum,fltrust", "--out", tmp_path / "grid"]
    first = run(capsys, "simulate", *SMALL, *options, "--json")
    assert first.code == 0, first.err
    document = json.loads(first.out)
    assert [(each["recipe"], each["attack"]) for each in document["cells"]][:2] == [
        ("fedavg", "none"),
        ("fedavg", "sign-flip"),
    ]
    assert {line["recipe"] for line in document["rules"]} == {"fedavg", "nnm+multikrum", "fltrust"}
    assert (tmp_path / "grid" / "simulate.png").stat().st_size > 1000
    again = run(capsys, "simulate", *SMALL, *options)
    assert "6 of 6 cells are there already" in again.err
    assert "worst" in again.out


def test_on_phantoms_a_screen_names_copiers_and_nobody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--attack", "none,mimic", "--aggregator", "multikrum", "--pre", "similarity", "--out", tmp_path]
    ran = run(capsys, "simulate", *SMALL, *options, "--json")
    assert ran.code == 0, ran.err
    cells = [json.loads(path.read_text()) for path in sorted((tmp_path / "cells").glob("*.json"))]
    notes = {cell["cell"]["attack"]: cell["found"]["notes"] for cell in cells}
    assert notes["none"] == [""]
    assert "sent the same update: one counts" in notes["mimic"][0]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--attack", "magic"], "--attack magic; found no such attack"),
        (["--aggregator", "bulyan", "--workers", 6, "--byzantine", 1], "bulyan needs 7 updates for f = 1"),
        (["--partition", "dirichlet:much"], "--partition dirichlet:much"),
        (["--byzantine", "many"], "--byzantine; found many"),
        (["--dataset", "nowhere"], "nowhere"),
        ([*PRIVATE, "--aggregator", "fedavg,fltrust", "--model", "resnet18-gn"], "--aggregator fltrust; found"),
        ([*PRIVATE, "--aggregator", "fedavg"], "small-cnn, whose BatchNorm statistics"),
    ],
)
def test_bad_input_is_one_line_before_anything_runs(
    options: list[object],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, "simulate", *options)
    assert ran.code == 2
    assert line in ran.err
    assert len(ran.err.strip().splitlines()) == 1
