from pathlib import Path

import numpy as np
import torch

from data.classes import CLASSES, FOLDERS
from data.images import ScanSet
from data.loaders import ScanLoader
from data.phantoms import phantom_set, write_phantoms
from fednet.config import TrainingSettings, derived_seed
from fednet.reporting.metrics import evaluate
from fednet.worker.compute import Compute
from fednet.worker.training import train
from models.registry import build

CPU = torch.device("cpu")


def scans(count: int, seed: int) -> ScanLoader:
    made = phantom_set(count, seed=seed, size=64)
    images = torch.from_numpy(np.stack([pixels for pixels, _ in made])).unsqueeze(1)
    return ScanLoader(ScanSet(images, torch.tensor([label for _, label in made]), ()), CPU)


def test_the_same_seed_draws_the_same_slices() -> None:
    first, again, other = (phantom_set(8, seed=seed, size=32) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not np.array_equal(first[0][0], other[0][0])


def test_classes_come_in_equal_numbers() -> None:
    labels = [label for _, label in phantom_set(40, seed=0, size=16)]
    assert [labels.count(label) for label in range(4)] == [10] * 4


def test_they_are_written_in_the_layout_of_the_public_set(tmp_path: Path) -> None:
    write_phantoms(tmp_path, training=8, testing=4, seed=0, size=16)
    assert sorted(path.name for path in (tmp_path / "Training").iterdir()) == sorted(FOLDERS)
    assert len(list((tmp_path / "Testing").rglob("*.png"))) == 4


def test_an_untrained_net_guesses_and_a_trained_one_learns_but_not_at_once() -> None:
    torch.manual_seed(0)
    model, training, test = build("small-cnn", classes=4), scans(360, 0), scans(120, 9)
    settings = TrainingSettings(local_epochs=1, batch_size=8, learning_rate=0.02)
    accuracies = [evaluate(model, test, classes=CLASSES).accuracy]
    for epoch in range(3):
        train(model, training, settings, seed=derived_seed(0, epoch), compute=Compute(CPU))
        accuracies.append(evaluate(model, test, classes=CLASSES).accuracy)
    assert accuracies[0] <= 0.4
    assert accuracies[1] < 0.95
    assert max(accuracies) >= 0.55
