import json
from pathlib import Path

import pytest

from tests.commands.running import run
from tests.data.scans import write_kaggle


def test_a_split_prints_its_table_and_leaves_record_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kaggle(tmp_path / "set")
    ran = run(capsys, "split", tmp_path / "set", "--out", tmp_path, "--clients", 3)
    assert ran.code == 0, ran.err
    assert "client3_data" in ran.out
    assert "Duplicates: 0 exact pairs" in ran.out
    assert (tmp_path / "split.json").exists() and (tmp_path / "split.png").exists()


def test_json_is_the_record_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "split", "--phantoms", "--phantom-images", 60, "--phantom-size", 16, "--out", tmp_path, "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == json.loads((tmp_path / "split.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "data set nowhere; found no such file"),
        ([], "none given and none in the current folder"),
        (["--clients", "0"], "--clients"),
        (["--scheme", "magic"], "--scheme"),
        (["nowhere", "--phantoms"], "not both"),
    ],
)
def test_wrong_use_is_exit_code_2_and_leaves_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, "split", *arguments)
    assert ran.code == 2
    assert complaint in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_second_split_needs_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_kaggle(tmp_path / "set")
    arguments = ("split", tmp_path / "set", "--out", tmp_path, "--clients", 2)
    assert run(capsys, *arguments).code == 0
    assert "--force" in run(capsys, *arguments).err
    assert run(capsys, *arguments, "--force").code == 0
