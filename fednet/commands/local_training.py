"""Training without a federation, by its code: one site's scans alone, and a global model tuned to a site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from fednet.config import RunSettings, TrainingSettings, derived_seed
from fednet.errors import BadInput
from fednet.worker.compute import Compute
from fednet.worker.objective import require_trainable
from fednet.worker.training import TrainingData, TrainingResult, train

if TYPE_CHECKING:
    from fednet.worker.privacy import SitePrivacy

_GENTLER = 0.1  # of the learning rate: a global model is near a good one, and is not to be trained anew

_SETTINGS = ("model", "image_size", "rounds", "seed", "lr_schedule", "warmup_rounds", "training")  # not a federation's


def local_settings(settings: RunSettings) -> dict[str, Any]:
    """Return what of the settings decides such a training; plain JSON types."""
    return {name: value for name, value in settings.to_dict().items() if name in _SETTINGS}


def train_alone(
    model: nn.Module,
    data: TrainingData,
    settings: RunSettings,
    *,
    compute: Compute,
    privacy: SitePrivacy | None = None,
) -> Iterator[tuple[int, TrainingResult]]:
    """Train `model` in place for a run's rounds on its schedule; yield (round from 1, result) after each.

    `model` is on the device of `compute`, and may be judged between rounds. `privacy`, of the same data, trains in
    place of plain training. Raises as `train`, or as that.
    """
    for number in range(1, settings.rounds + 1):
        training = settings.training_in(number)
        if privacy is not None:
            yield number, privacy.train(model, training, round_number=number, compute=compute)
        else:
            seed = derived_seed(settings.seed, "local", number)
            yield number, train(model, data, training, seed=seed, compute=compute)


def tuning_settings(
    training: TrainingSettings, model: nn.Module, *, epochs: int, learning_rate: float | None, freeze_until: str
) -> TrainingSettings:
    """Return how `model` is tuned to a site: as in training but for these three; None: a tenth of its learning rate.

    Raises `BadInput` naming an option `--tune-...`.
    """
    rate = training.learning_rate * _GENTLER if learning_rate is None else learning_rate
    try:
        tuning = replace(training, local_epochs=epochs, learning_rate=rate, freeze_until=freeze_until)
        require_trainable(model, tuning)
    except BadInput as exc:
        option = exc.what.replace("--local-", "--").replace("--", "--tune-")
        raise BadInput(option, found=exc.found, expected=exc.expected, todo=exc.todo) from exc
    return tuning
