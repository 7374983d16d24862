from dataclasses import replace

import pytest
import torch

from data.classes import CLASSES
from data.images import ScanSet
from data.loaders import ScanLoader
from fednet.commands.local_training import train_alone, tuning_settings
from fednet.config import RunSettings, TrainingSettings, derived_seed
from fednet.errors import BadInput
from fednet.worker.compute import Compute
from fednet.worker.training import train
from models.small_cnn import SmallCnn
from tests.worker.fakes import seeded

CPU = torch.device("cpu")


def model() -> SmallCnn:
    with seeded(0):
        return SmallCnn(len(CLASSES))


def some_scans() -> ScanLoader:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 1, 16, 16), dtype=torch.uint8, generator=generator)
    return ScanLoader(ScanSet(images, torch.arange(12) % len(CLASSES), ()), CPU)


def test_a_site_alone_trains_on_the_schedule_of_a_run() -> None:
    training = TrainingSettings(batch_size=4, learning_rate=0.1)
    settings = RunSettings(
        model="small-cnn", image_size=16, classes=CLASSES, rounds=3, workers=1, training=training, lr_schedule="step"
    )
    alone, expected, data, compute = model(), model(), some_scans(), Compute(CPU)
    numbers = [number for number, _ in train_alone(alone, data, settings, compute=compute)]
    assert numbers == [1, 2, 3]
    for number, rate in zip(numbers, (0.1, 0.1, 0.01), strict=True):
        asked = replace(training, learning_rate=rate)
        train(expected, data, asked, seed=derived_seed(0, "local", number), compute=compute)
    for name, value in expected.state_dict().items():
        assert torch.allclose(alone.state_dict()[name], value, atol=1e-6), name


def test_a_model_is_tuned_as_it_was_trained_but_more_gently() -> None:
    training = TrainingSettings(local_epochs=2, learning_rate=0.02, balance="loss", freeze_until="features.0")
    found = tuning_settings(training, model(), epochs=5, learning_rate=None, freeze_until="")
    assert found == replace(training, local_epochs=5, learning_rate=found.learning_rate, freeze_until="")
    assert found.learning_rate == pytest.approx(0.002)
    chosen = tuning_settings(training, model(), epochs=1, learning_rate=0.5, freeze_until="features.1")
    assert (chosen.local_epochs, chosen.learning_rate, chosen.freeze_until) == (1, 0.5, "features.1")


@pytest.mark.parametrize(
    ("epochs", "rate", "layer", "complaint"),
    [
        (-1, None, "", "--tune-epochs; found -1"),
        (5, -0.1, "", "--tune-lr; found -0.1"),
        (5, float("nan"), "", "--tune-lr; found nan"),
        (5, None, "layer9", "--tune-freeze-until layer9; found no layer"),
        (5, None, "fc", "--tune-freeze-until fc; found the last layer"),
        (5, None, "layer 2", "--tune-freeze-until; found 'layer 2'"),
    ],
)
def test_what_is_wrong_about_tuning_is_said_of_its_own_options(
    epochs: int, rate: float | None, layer: str, complaint: str
) -> None:
    with pytest.raises(BadInput) as caught:
        tuning_settings(TrainingSettings(), model(), epochs=epochs, learning_rate=rate, freeze_until=layer)
    assert str(caught.value).startswith(complaint)
