import pytest
import torch

from fednet.bench import bare_training
from fednet.bench.bare_training import BareTraining, InTurn, in_turn
from fednet.config import TrainingSettings, derived_seed
from fednet.worker.compute import Compute
from fednet.worker.training import new_optimiser, train
from tests.worker.fakes import TinyData, tiny_net

CPU = torch.device("cpu")


def test_it_computes_what_a_worker_does() -> None:
    settings, data = TrainingSettings(local_epochs=1, batch_size=8, learning_rate=0.05), TinyData()
    ours, bare = tiny_net(), tiny_net()
    train(ours, data, settings, seed=1, compute=Compute(CPU))
    bare.to(memory_format=torch.channels_last)
    own = [
        (images, labels)
        for images, labels in data.batches(batch_size=8, seed=derived_seed(1, "epoch", 1), augment=True)
    ]
    BareTraining(
        model=bare,
        batches=[(images.contiguous(memory_format=torch.channels_last), labels) for images, labels in own],
        epochs=1,
        new_optimiser=lambda: new_optimiser(bare, settings, CPU),
        precision=torch.float32,
    ).run()
    for one, other in zip(ours.parameters(), bare.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_reference_stands_between_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def timed(work: object, device: torch.device) -> float:
        assert callable(work)
        work()
        return float(len(done))

    monkeypatch.setattr(bare_training, "seconds", timed)
    passed, processor = in_turn(
        lambda: done.append("ours"),
        lambda: done.append("bare"),
        repeats=2,
        device=CPU,
        reset=lambda: done.append("reset"),
    )
    assert [each for each in done if each != "reset"] == ["ours", "bare", *["ours", "bare", "bare", "ours"] * 2]
    assert done[::2] == ["reset"] * 10
    assert (passed.ours, passed.reference) == ([6.0, 12.0, 14.0, 20.0], [8.0, 10.0, 16.0, 18.0])
    assert [len(processor.ours), len(processor.reference)] == [4, 4]


def test_a_ratio_is_of_one_repeat() -> None:
    assert InTurn(ours=[1.0, 3.0, 5.0, 5.0], reference=[2.0, 1.0, 4.0, 4.0]).ratios() == [0.75, 0.8]
