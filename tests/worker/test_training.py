import pytest
import torch

from fednet.config import TrainingSettings
from fednet.errors import TrainingError
from fednet.reporting.metrics import evaluate
from fednet.worker import progress
from fednet.worker.compute import Compute
from fednet.worker.progress import TrainingProgress
from fednet.worker.training import TrainingResult, train
from tests.worker.fakes import TinyData, TinyNet, tiny_net

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(local_epochs=3, batch_size=8, learning_rate=0.05)


def run(model: TinyNet, data: TinyData, settings: TrainingSettings = SETTINGS, seed: int = 1) -> TrainingResult:
    return train(model, data, settings, seed=seed, compute=Compute(CPU))


def weights(model: TinyNet) -> torch.Tensor:
    return torch.cat([each.detach().flatten().float() for each in model.state_dict().values()])


def test_it_learns() -> None:
    model, data = tiny_net(), TinyData(64)
    before = evaluate(model, data, classes=("dark", "bright")).loss
    result = run(model, data, TrainingSettings(local_epochs=10, batch_size=8, learning_rate=0.05))
    assert evaluate(model, data, classes=("dark", "bright")).loss < before / 2
    assert (result.samples, result.batches, result.stopped) == (64, 80, False)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, second, other = tiny_net(), tiny_net(), tiny_net()
    run(first, TinyData())
    run(second, TinyData())
    run(other, TinyData(), seed=2)
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_a_single_scan_is_too_few_for_batch_norm() -> None:
    with pytest.raises(TrainingError, match="1 scan to train on"):
        run(tiny_net(), TinyData(1))


def test_no_epochs_change_nothing() -> None:
    model = tiny_net()
    before = weights(model)
    run(model, TinyData(), TrainingSettings(local_epochs=0))
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize(("epochs", "batches"), [(0.25, 2), (0.3, 2), (0.4, 3), (0.01, 1), (1.5, 12)])
def test_a_part_of_an_epoch_takes_so_many_of_its_batches(epochs: float, batches: int) -> None:
    settings = TrainingSettings(local_epochs=epochs, batch_size=8, learning_rate=0.05)
    assert run(tiny_net(), TinyData(64), settings).batches == batches


def test_it_stops_between_batches() -> None:
    answers = iter([False, False, True])
    result = train(tiny_net(), TinyData(), SETTINGS, seed=1, compute=Compute(CPU), should_stop=lambda: next(answers))
    assert result.stopped
    assert result.batches == 2


def test_a_loss_that_is_not_finite_is_said() -> None:
    with pytest.raises(TrainingError, match="lower --lr"):
        run(tiny_net(), TinyData(poison=float("nan")))


def test_progress_rises_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PROGRESS_EVERY_S", 0.0)
    seen: list[TrainingProgress] = []
    train(tiny_net(), TinyData(), SETTINGS, seed=1, compute=Compute(CPU), on_progress=seen.append)
    fractions = [each.fraction for each in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert seen[-1].remaining_s == 0.0
    assert {each.epoch for each in seen} == {1, 2, 3}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_learns_on_cuda() -> None:
    model, data = tiny_net().to("cuda"), TinyData(64, device="cuda")
    train(model, data, SETTINGS, seed=1, compute=Compute(torch.device("cuda")))
