import contextlib
import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from fednet.errors import DiskFull, ModelError
from models import checkpoint
from models.checkpoint import CheckpointFacts
from models.registry import build

FACTS = CheckpointFacts(model="small-cnn", classes=("a", "b"), image_size=64, run="r", round=3, extra={"loss": 0.5})


def saved(path: Path) -> dict[str, torch.Tensor]:
    state = build("small-cnn", classes=2).state_dict()
    checkpoint.save(path, state, FACTS)
    return state


def test_a_model_and_its_facts_survive(tmp_path: Path) -> None:
    state = saved(tmp_path / "m.pth")
    found = checkpoint.load(tmp_path / "m.pth")
    assert found.facts == FACTS
    rebuilt = found.build().state_dict()
    assert all(torch.equal(rebuilt[name], state[name]) for name in state)


def test_plain_torch_reads_it_with_weights_only(tmp_path: Path) -> None:
    saved(tmp_path / "m.pth")
    assert "state_dict" in torch.load(tmp_path / "m.pth", weights_only=True)


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path) -> None:
    flat = torch.zeros(16, dtype=torch.uint8)
    views = {"a": flat[:8].view(torch.float32), "b": flat[8:].view(torch.int64)}
    checkpoint.save(tmp_path / "m.pth", views, FACTS)
    assert checkpoint.load(tmp_path / "m.pth").state["b"].dtype == torch.int64


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, pickle.dumps({"a": os.getcwd})])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.pth"):
        checkpoint.load(tmp_path / "m.pth")


def test_a_checkpoint_of_somebody_else_is_named(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match="no FedNet checkpoint"):
        checkpoint.load(tmp_path / "m.pth")


def test_facts_of_another_kind_are_named(tmp_path: Path) -> None:
    saved(tmp_path / "m.pth")
    document = torch.load(tmp_path / "m.pth", weights_only=True)
    torch.save(document | {"facts": document["facts"] | {"extra": [1]}}, tmp_path / "m.pth")
    with pytest.raises(ModelError, match="another kind"):
        checkpoint.load(tmp_path / "m.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        checkpoint.load(tmp_path / "m.pth")


def test_weights_of_another_layout_are_named_by_their_first_tensor(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "m.pth", build("resnet18", classes=2).state_dict(), FACTS)
    with pytest.raises(ModelError, match="do not fit"):
        checkpoint.load(tmp_path / "m.pth").build()


def test_a_full_disk_keeps_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "m.pth")
    before = (tmp_path / "m.pth").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull):
        saved(tmp_path / "m.pth")
    assert (tmp_path / "m.pth").read_bytes() == before


def test_a_changed_byte_anywhere_in_the_pickle_is_no_traceback(tmp_path: Path) -> None:
    saved(tmp_path / "m.pth")
    content = (tmp_path / "m.pth").read_bytes()
    for offset in range(0, 2000, 7):
        changed = bytes([content[offset] ^ 1])
        (tmp_path / "m.pth").write_bytes(content[:offset] + changed + content[offset + 1 :])
        with contextlib.suppress(ModelError):
            checkpoint.load(tmp_path / "m.pth")
