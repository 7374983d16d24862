"""--cache and --no-cache, where commands load scans."""

import json
from pathlib import Path

import pytest

from data.cache import CACHE_FOLDER
from tests.commands.running import run
from tests.data.scans import write_folder
from tests.models.saved import write_model


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "test")


@pytest.fixture
def evaluate(tmp_path: Path, data: Path) -> list[object]:
    model = write_model(tmp_path / "final.pth", image_size=16)
    return ["evaluate", "--model", model, "--data", data, "--device", "cpu", "--resamples", 0, "--json"]


def test_the_second_evaluation_reads_the_cache_in_the_folder(
    capsys: pytest.CaptureFixture[str], data: Path, evaluate: list[object]
) -> None:
    first, second = run(capsys, *evaluate), run(capsys, *evaluate)
    assert first.code == second.code == 0, first.err
    assert json.loads(first.out) == json.loads(second.out)
    assert f"{data / CACHE_FOLDER} keeps what was decoded (0.0 MB of pixels); --no-cache keeps none" in first.err
    assert "pituitary 3), 12 from the cache" in second.err
    assert "keeps what was decoded" not in second.err


def test_another_place_leaves_the_folder_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: Path, evaluate: list[object]
) -> None:
    for _ in range(2):
        ran = run(capsys, *evaluate, "--cache", tmp_path / "elsewhere")
    assert "12 from the cache" in ran.err
    assert not (data / CACHE_FOLDER).exists()


def test_without_a_cache_nothing_is_taken_or_kept(
    capsys: pytest.CaptureFixture[str], data: Path, evaluate: list[object]
) -> None:
    assert "the cache" not in run(capsys, *evaluate, "--no-cache").err
    assert not (data / CACHE_FOLDER).exists()
    run(capsys, *evaluate)
    assert "from the cache" not in run(capsys, *evaluate, "--no-cache").err


def test_both_options_together_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, evaluate: list[object]
) -> None:
    ran = run(capsys, *evaluate, "--no-cache", "--cache", tmp_path)
    assert ran.code == 2
    assert "--no-cache; found --cache" in ran.err
