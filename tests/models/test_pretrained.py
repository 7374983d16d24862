from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import resnet18 as imagenet_resnet18

from fednet.errors import ModelError
from models import checkpoint, pretrained
from models.checkpoint import CheckpointFacts
from models.pretrained import Pretrained, start_from
from models.registry import build


@pytest.fixture
def imagenet() -> dict[str, torch.Tensor]:
    """A state_dict shaped as torchvision's: 1,000 classes."""
    torch.manual_seed(11)
    state: dict[str, torch.Tensor] = imagenet_resnet18(weights=None).state_dict()
    return state


def start(model: nn.Module, **options: object) -> list[str]:
    notices: list[str] = []
    chosen = {"name": "resnet18", "pretrained": Pretrained.AUTO, "weights": None, "notice": notices.append} | options
    start_from(model, chosen.pop("name"), **chosen)  # type: ignore[arg-type]  # options of one test at a time
    return notices


def test_imagenet_weights_fill_all_but_the_last_layer(
    monkeypatch: pytest.MonkeyPatch, imagenet: dict[str, torch.Tensor]
) -> None:
    monkeypatch.setattr(pretrained, "_download", lambda: imagenet)
    model = build("resnet18", classes=4)
    last = model.state_dict()["fc.weight"].clone()
    assert start(model) == ["starting from ImageNet weights"]
    assert torch.equal(model.state_dict()["conv1.weight"], imagenet["conv1.weight"])
    assert torch.equal(model.state_dict()["fc.weight"], last)


def refused() -> dict[str, torch.Tensor]:
    raise OSError("no route to host")


def test_a_failed_download_is_one_line_and_a_start_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_download", refused)
    model = build("resnet18", classes=4)
    before = model.state_dict()["conv1.weight"].clone()
    notices = start(model)
    assert len(notices) == 1
    assert "no route to host" in notices[0] and "--weights FILE" in notices[0]
    assert torch.equal(model.state_dict()["conv1.weight"], before)


def test_require_refuses_to_start_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_download", refused)
    with pytest.raises(ModelError, match="no route to host"):
        start(build("resnet18", classes=4), pretrained=Pretrained.REQUIRE)
    with pytest.raises(ModelError, match="expected resnet18"):
        start(build("small-cnn", classes=4), name="small-cnn", pretrained=Pretrained.REQUIRE)


def test_no_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_download", lambda: pytest.fail("asked"))
    assert start(build("resnet18", classes=4), pretrained=Pretrained.NO) == []


def test_a_file_of_torchvisions_state_dict_is_used(tmp_path: Path, imagenet: dict[str, torch.Tensor]) -> None:
    without_counters = {name: value for name, value in imagenet.items() if "num_batches" not in name}
    torch.save(without_counters, tmp_path / "w.pth")
    model = build("resnet18", classes=4)
    start(model, weights=tmp_path / "w.pth")
    assert torch.equal(model.state_dict()["layer4.1.conv2.weight"], imagenet["layer4.1.conv2.weight"])


def test_a_fednet_checkpoint_is_used_with_its_last_layer(tmp_path: Path) -> None:
    trained = build("small-cnn", classes=4)
    checkpoint.save(
        tmp_path / "w.pth",
        trained.state_dict(),
        CheckpointFacts(model="small-cnn", classes=("a", "b", "c", "d"), image_size=64),
    )
    model = build("small-cnn", classes=4)
    start(model, name="small-cnn", weights=tmp_path / "w.pth")
    assert torch.equal(model.state_dict()["fc.weight"], trained.state_dict()["fc.weight"])


@pytest.mark.parametrize("document", [[1, 2], {"a": 1}, {"conv1.weight": torch.zeros(1)}])
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, document: object) -> None:
    torch.save(document, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth"):
        start(build("resnet18", classes=4), weights=tmp_path / "w.pth")
