import json
import shutil
from pathlib import Path

import pytest
import torch

from data.classes import CLASSES
from fednet.commands import wiring
from fednet.tensors import pack
from models.prediction import rules_of
from tests.commands.running import run


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split of phantoms."""
    return tmp_path_factory.mktemp("wiring") / "split"


@pytest.fixture
def data(split: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The coordinator's folder in it."""
    if not split.exists():
        phantoms = ["--phantoms", "--phantom-images", 120, "--phantom-size", 32, "--clients", 2]
        assert run(capsys, "split", *phantoms, "--out", split).code == 0
    return split / "server_data"


def judge_of(data: Path) -> tuple[wiring.ServerJudge, torch.Tensor]:
    """Return what judges models in a folder, and a model that has learned nothing."""
    network = wiring.new_model("small-cnn", seed=1, pretrained="no", weights=None, notice=lambda text: None)
    manifest = wiring.manifest_for(network)
    flat = pack(network.state_dict(), manifest)
    judge = wiring.ServerJudge(
        data,
        model=network,
        manifest=manifest,
        image_size=32,
        device=torch.device("cpu"),
        max_bad_files=0.0,
        notice=lambda text: None,
    )
    return judge, flat


def test_a_model_is_examined_with_the_coordinators_own_scans(data: Path) -> None:
    judge, flat = judge_of(data)
    found = judge.examine(flat)
    metrics = judge(flat)
    assert found.extra["images"] == metrics["validation"]["images"]
    assert found.calibration["test"]["images"] == metrics["test"]["images"]
    assert found.calibration["test"]["before"]["loss"] == metrics["test"]["loss"]
    assert found.intervals["accuracy"]["value"] == metrics["test"]["accuracy"]
    assert rules_of(found.extra).temperature == found.extra["temperature"]


def test_the_split_that_scans_come_from_is_the_one_that_counts_as_many(data: Path, tmp_path: Path) -> None:
    found = judge_of(data)[0].split_record()
    assert found is not None
    assert found["arguments"]["test_from"] == "published"
    assert found["classes"] == list(CLASSES)
    assert "files" not in found
    copy = shutil.copytree(data, tmp_path / "elsewhere" / "server_data")
    assert judge_of(copy)[0].split_record() is None, "no split.json beside it"
    other = json.loads((data.parent / "split.json").read_text())
    other["sites"]["server_data/test"][0] += 1
    for text in (json.dumps(other), "[]", "{"):
        (copy.parent / "split.json").write_text(text)
        assert judge_of(copy)[0].split_record() is None, text
