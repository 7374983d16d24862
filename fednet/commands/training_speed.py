"""A worker's local training on noise, timed beside a bare PyTorch loop, and its parts by themselves."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data.cache import in_the_folder, nowhere
from data.classes import CLASSES
from data.images import ScanSet
from data.loaders import ScanLoader
from data.phantoms import write_phantoms
from fednet.bench.bare_training import BareTraining, InTurn, in_turn
from fednet.bench.gpu import utilisation
from fednet.bench.memory import peak_bytes
from fednet.bench.rates import seconds
from fednet.commands import wiring
from fednet.config import TrainingSettings
from fednet.worker.compute import Compute
from fednet.worker.objective import Objective
from fednet.worker.progress import Meter
from fednet.worker.training import new_optimiser, train

_FILE_PIXELS = 512  # of most public scans
_SETTLED_S = 2.1  # a cache does not know files again that were younger than 2 s


@dataclass(frozen=True, kw_only=True)
class TrainBench:
    """What is to be measured."""

    model: str
    image_size: int
    batch_size: int
    images: int
    epochs: int
    repeats: int
    device: torch.device
    mixes: bool | None = None


class TrainingSpeed:
    """One model and one site's scans, trained on as a worker does it, or by the bare loop."""

    def __init__(self, bench: TrainBench) -> None:
        """The images are noise, which computes as long as scans do."""
        self._bench, device = bench, bench.device
        self._settings = TrainingSettings(local_epochs=bench.epochs, batch_size=bench.batch_size)
        self._model = wiring.new_model(bench.model, seed=0, pretrained="no", weights=None, notice=_silent)
        self._model.to(device).to(memory_format=torch.channels_last)
        self._start = {name: value.clone() for name, value in self._model.state_dict().items()}
        self._data = ScanLoader(_noise(bench.images, bench.image_size), device)
        self._compute = Compute(device, mixes=bench.mixes)
        self._bare = BareTraining(
            model=self._model,
            batches=list(self._data.batches(batch_size=bench.batch_size, seed=0, augment=False)),
            epochs=bench.epochs,
            new_optimiser=self._plain_optimiser,
            precision=self._compute.precision,
        )

    @property
    def precision(self) -> str:
        """What both compute in."""
        return str(self._compute.precision).removeprefix("torch.")

    def compare(self) -> tuple[InTurn, InTurn]:
        """Time both in turn, from the same weights: (seconds that passed, seconds of the processor)."""
        bench = self._bench
        return in_turn(self._train, self._bare.run, repeats=bench.repeats, device=bench.device, reset=self._reset)

    def parts(self) -> dict[str, float]:
        """Return the seconds of an epoch's parts, each measured by itself, as medians."""
        batches = self._bare.batches
        plain, whole = self._timed(lambda: self._assemble(False)), self._timed(lambda: self._assemble(True))
        return {
            "step": self._timed(self._steps()),
            "assembling": plain,
            "augmentation": whole - plain,
            "bookkeeping": self._timed(lambda: self._count(len(batches))),
            "set_up": self._timed(lambda: self._train(epochs=0)) / self._bench.epochs,
        }

    def on_gpu(self) -> dict[str, dict[str, float | None]]:
        """Return the peak of memory and the use of the GPU, of both."""
        works, device = {"ours": self._train, "reference": self._bare.run}, self._bench.device
        return {
            name: {"peak_bytes": peak_bytes(work, device), "utilisation": utilisation(work, device)}
            for name, work in works.items()
        }

    def _train(self, epochs: int | None = None) -> None:
        settings = self._settings if epochs is None else replace(self._settings, local_epochs=epochs)
        train(self._model, self._data, settings, seed=0, compute=self._compute)

    def _plain_optimiser(self) -> torch.optim.Optimizer:
        settings, is_fused = self._settings, self._bench.device.type in ("cpu", "cuda")
        return torch.optim.SGD(
            self._model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            nesterov=True,
            fused=is_fused,
        )

    def _steps(self) -> Callable[[], None]:
        settings, device = self._settings, self._bench.device
        optimiser = new_optimiser(self._model, settings, device)
        objective = Objective(self._model, settings, self._data.class_counts, device=device)
        network = self._compute.network(self._model)

        def steps() -> None:
            for images, labels in self._bare.batches:
                self._compute.step(network, optimiser, objective, images, labels)

        return steps

    def _assemble(self, augment: bool) -> None:
        for _ in self._data.batches(batch_size=self._bench.batch_size, seed=0, augment=augment):
            pass

    def _count(self, batches: int) -> None:
        meter = Meter(batches, self._bench.device, lambda progress: None)
        meter.begin_epoch(1)
        loss = torch.zeros((), device=self._bench.device)
        for _ in range(batches):
            meter.count(loss, self._bench.batch_size)
        meter.epoch_loss()

    def _timed(self, work: Callable[[], object]) -> float:
        work()
        return statistics.median(seconds(work, self._bench.device) for _ in range(self._bench.repeats))

    def _reset(self) -> None:
        self._model.load_state_dict(self._start)


def starts(files: int, image_size: int) -> dict[str, Any]:
    """Return images/s of reading so many PNG files of 512 pixels from a temporary folder, which memory has in hand.

    `decoded`: with no cache; `kept`: the first time with one; `cached`: as a worker has them that starts again.
    """
    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as name:
        folder = Path(name)
        write_phantoms(folder, training=files, testing=0, seed=0, size=_FILE_PIXELS)
        time.sleep(_SETTLED_S)

        def rate(is_kept: bool) -> float:
            began = time.perf_counter()
            wiring.load_scans(
                folder / "Training",
                image_size=image_size,
                max_bad_files=0.0,
                notice=_silent,
                cache=in_the_folder if is_kept else nowhere,
            )
            return files / (time.perf_counter() - began)

        return {"files": files, "decoded": rate(False), "kept": rate(True), "cached": rate(True)}


def _noise(images: int, size: int) -> ScanSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 1, size, size), dtype=torch.uint8, generator=generator)
    return ScanSet(pixels, torch.arange(images) % len(CLASSES), ())


def _silent(text: str) -> None:
    """What is read here, or started from, is of no interest."""
