from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fednet.config import TrainingSettings
from fednet.errors import TrainingError
from fednet.worker.compute import Compute
from fednet.worker.training import train
from tests.worker.fakes import TinyData

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(local_epochs=2, batch_size=12, learning_rate=0.05)


class Narrow(nn.Module):
    """A network without BatchNorm whose memory overflows beyond so many images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.seen: list[int] = []
        self.fc = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        logits: torch.Tensor = self.fc(images.mean(dim=(2, 3)))
        return logits


@pytest.fixture(autouse=True)
def same_weights() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def narrow(room: int) -> Narrow:
    torch.manual_seed(0)
    return Narrow(room)


def test_a_batch_that_overflows_is_halved_with_the_same_result() -> None:
    said: list[str] = []
    wide, small = narrow(100), narrow(5)
    train(wide, TinyData(), SETTINGS, seed=1, compute=Compute(CPU))
    train(small, TinyData(), SETTINGS, seed=1, compute=Compute(CPU, notice=said.append))
    assert small.seen[:4] == [12, 6, 3, 3]
    assert max(small.seen[2:]) == 3
    assert torch.allclose(small.fc.weight, wide.fc.weight, atol=1e-6)
    assert [line.split(": ")[1].split(" and ")[0].split(",")[0] for line in said] == [
        "the memory of cpu is too small for 12 images at once; 6 from now on",
        "the memory of cpu is too small for 6 images at once; 3 from now on",
    ]


def test_the_next_round_begins_with_what_fitted() -> None:
    compute, model = Compute(CPU), narrow(5)
    train(model, TinyData(), SETTINGS, seed=1, compute=compute)
    model.seen.clear()
    train(model, TinyData(), SETTINGS, seed=2, compute=compute)
    assert set(model.seen) == {3}


def test_class_weights_survive_the_halving() -> None:
    settings = TrainingSettings(local_epochs=1, batch_size=12, learning_rate=0.05, balance="loss", label_smoothing=0.1)
    data = TinyData(23)
    wide, small = narrow(100), narrow(5)
    train(wide, data, settings, seed=1, compute=Compute(CPU))
    train(small, data, settings, seed=1, compute=Compute(CPU))
    assert torch.allclose(small.fc.weight, wide.fc.weight, atol=1e-6)


def test_where_nothing_fits_it_says_so() -> None:
    with pytest.raises(TrainingError, match="too small for 2 images at once"):
        train(narrow(1), TinyData(), SETTINGS, seed=1, compute=Compute(CPU))


def test_precisions_are_mixed_where_it_is_asked_for() -> None:
    plain, mixed = narrow(100), narrow(100)
    train(plain, TinyData(), SETTINGS, seed=1, compute=Compute(CPU, mixes=False))
    train(mixed, TinyData(), SETTINGS, seed=1, compute=Compute(CPU, mixes=True))
    assert not torch.equal(mixed.fc.weight, plain.fc.weight)
    assert torch.allclose(mixed.fc.weight, plain.fc.weight, atol=0.01)
    assert mixed.fc.weight.dtype is torch.float32
    assert Compute(CPU).precision is torch.float32


def test_a_compiled_network_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[nn.Module] = []

    def compiled(model: nn.Module) -> nn.Module:
        asked.append(model)
        return model

    monkeypatch.setattr(torch, "compile", compiled)
    plain, other = narrow(100), narrow(100)
    train(plain, TinyData(), SETTINGS, seed=1, compute=Compute(CPU))
    train(other, TinyData(), SETTINGS, seed=1, compute=Compute(CPU, compiles=True))
    assert asked == [other]
    assert torch.equal(plain.fc.weight, other.fc.weight)
