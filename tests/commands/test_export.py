import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from data.phantoms import phantom_set
from data.transforms import normalised
from models import checkpoint, export
from tests.commands.running import run
from tests.models.saved import write_model


def images(count: int, size: int) -> torch.Tensor:
    """Return normalised phantoms  # (count, 3, size, size)."""
    pixels = np.stack([each for each, _ in phantom_set(count, seed=2, size=size)])
    return normalised(torch.from_numpy(pixels).unsqueeze(1))


@pytest.mark.parametrize(("name", "size", "count"), [("small-cnn", 48, 100), ("resnet18", 64, 12)])
def test_onnx_gives_what_pytorch_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, size: int, count: int
) -> None:
    model = write_model(tmp_path / "final.pth", name, image_size=size)
    ran = run(capsys, "export", "--model", model, "--format", "onnx", "--out", tmp_path / "final.onnx")
    assert ran.code == 0, ran.err
    assert len(ran.out.splitlines()) == 1
    described = json.loads((tmp_path / "final.onnx.json").read_text())
    assert described["max_difference"] <= 1e-4
    session = onnxruntime.InferenceSession((tmp_path / "final.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    batch = images(count, size)
    with torch.inference_mode():
        expected = checkpoint.load(model).build().eval()(batch).numpy()
    found = session.run([described["output"]["name"]], {described["input"]["name"]: batch.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-4


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is:FutureWarning")
@pytest.mark.parametrize("form", ["safetensors", "torchscript"])
def test_other_formats_give_what_pytorch_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    model = write_model(tmp_path / "final.pth")
    out = tmp_path / "deep" / f"final.{form}"
    assert run(capsys, "export", "--model", model, "--format", form, "--out", out).code == 0
    original = checkpoint.load(model)
    if form == "safetensors":
        found = load_file(out)
        assert found.keys() == original.state.keys()
        assert all(torch.equal(found[name], original.state[name]) for name in found)
        return
    with torch.inference_mode():
        assert torch.allclose(torch.jit.load(out)(images(3, 32)), original.build().eval()(images(3, 32)), atol=1e-5)  # type: ignore[no-untyped-call]


def test_the_description_holds_all_that_is_needed_to_use_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = write_model(tmp_path / "final.pth"), tmp_path / "m.safetensors"
    assert run(capsys, "export", "--model", model, "--format", "safetensors", "--out", out).code == 0
    described = json.loads((tmp_path / "m.safetensors.json").read_text())
    assert described["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert described["file_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert described["classes"][2] == "no_tumor"
    assert described["input"]["shape"] == ["batch", 3, 32, 32]
    told = described["input"]["normalisation"]
    grey = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(told[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    assert torch.allclose((grey * told["scale"] - mean) / std, normalised(grey), atol=1e-6)


def test_the_description_tells_the_calibration_that_the_model_brings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = {"temperature": 1.5, "threshold": 0.7, "max_energy": -2.0}
    model, out = write_model(tmp_path / "final.pth", extra=fitted | {"images": 40}), tmp_path / "m.safetensors"
    assert run(capsys, "export", "--model", model, "--format", "safetensors", "--out", out).code == 0
    assert json.loads((tmp_path / "m.safetensors.json").read_text())["calibration"] == fitted


def test_a_file_with_other_outputs_is_never_put_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = write_model(tmp_path / "final.pth"), tmp_path / "final.safetensors"
    out.write_text("what was there")
    monkeypatch.setattr(export, "max_difference", lambda *_, image_size: 0.01)
    ran = run(capsys, "export", "--model", model, "--format", "safetensors", "--out", out)
    assert ran.code == 1
    assert "differ by 0.01" in ran.err and len(ran.err.splitlines()) == 1
    assert out.read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final.pth", "final.safetensors"]


@pytest.mark.parametrize("out", ["", "final.pth"])
def test_neither_a_folder_nor_the_model_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    model = write_model(tmp_path / "final.pth")
    before = model.read_bytes()
    ran = run(capsys, "export", "--model", model, "--format", "safetensors", "--out", tmp_path / out)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert model.read_bytes() == before


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "export", "--model", "nowhere.pth", "--format", "onnx", "--out", "x.onnx")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)


def test_an_unknown_format_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "export", "--model", "nowhere.pth", "--format", "pickle", "--out", "x")
    assert ran.code == 2
    assert "'safetensors', 'onnx', 'torchscript'" in ran.err
