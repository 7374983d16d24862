"""Trains and judges the models that a site may choose from: its scans' alone, the global one, that tuned to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data.classes import CLASSES
from data.loaders import ScanLoader
from fednet.commands.gains_inputs import SharedTest, SiteScans
from fednet.commands.local_training import train_alone
from fednet.config import RunSettings, TrainingSettings, derived_seed
from fednet.reporting.gains import ALONE, GLOBAL, OWN, TUNED, Standing, standing
from fednet.reporting.intervals import Outputs
from fednet.reporting.metrics import predictions
from fednet.worker.compute import Compute
from fednet.worker.training import train
from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointFacts

Notice = Callable[[str], None]

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class SiteGains:
    """What one site gains from joining."""

    name: str
    folder: Path
    scans: int  # in its folder
    trained_on: int
    held_out: Standing | None  # on the scans that it holds out
    test: Standing | None  # on a test set that all sites share

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"folder": str(self.folder)}


class Contest:
    """Trains and judges every site's models, by the same settings and from the same starting weights."""

    def __init__(
        self,
        saved: Checkpoint,
        start: nn.Module,
        *,
        settings: RunSettings,
        tuning: TrainingSettings,
        test: SharedTest | None,
        compute: Compute,
        notice: Notice,
    ) -> None:
        """`saved`: the global model; `start`: one of its architecture, which a site's own training begins with."""
        self._saved = saved
        self._start = {name: value.clone() for name, value in start.state_dict().items()}
        self._settings, self._tuning = settings, tuning
        self._compute, self._notice = compute, notice
        self._test = None if test is None else ScanLoader(test.scans, compute.device)

    def models(self, site: SiteScans, own: Checkpoint | None) -> dict[str, nn.Module]:
        """Return the site's models, by their names in `fednet.reporting.gains`. Raises as `train`."""
        data = ScanLoader(site.training, self._compute.device)
        found = {ALONE: self._alone(site.name, data), GLOBAL: self._global, TUNED: self._tuned(site.name, data)}
        return found if own is None else found | {OWN: self._built(own)}

    def judged(self, site: SiteScans, models: Mapping[str, nn.Module]) -> SiteGains:
        """Return how they stand on the site's held-out scans and on the test set."""
        return SiteGains(
            name=site.name,
            folder=site.folder,
            scans=sum(site.counts),
            trained_on=len(site.training.labels),
            held_out=self._on_held_out(site, models),
            test=self._on_test(models),
        )

    def _alone(self, name: str, data: ScanLoader) -> nn.Module:
        model = self._built(self._saved)
        model.load_state_dict(self._start)
        for number, result in train_alone(model, data, self._settings, compute=self._compute):
            self._notice(
                f"{name} alone, round {number} of {self._settings.rounds}: loss {result.mean_loss:.3f}, "
                f"{result.train_s:.1f} s"
            )
        return model

    def _tuned(self, name: str, data: ScanLoader) -> nn.Module:
        model = self._built(self._saved)
        seed = derived_seed(self._settings.seed, "tuning")
        result = train(model, data, self._tuning, seed=seed, compute=self._compute)
        self._notice(f"{name} tuned: loss {result.mean_loss:.3f}, {result.train_s:.1f} s")
        return model

    def _built(self, saved: Checkpoint) -> nn.Module:
        return saved.build().to(self._compute.device)

    def _on_held_out(self, site: SiteScans, models: Mapping[str, nn.Module]) -> Standing | None:
        if site.held_out is None:
            return None
        data = ScanLoader(site.held_out, self._compute.device)
        outputs = {kind: _outputs(model, data) for kind, model in models.items()}
        return standing(outputs, classes=CLASSES, present=site.counts)

    def _on_test(self, models: Mapping[str, nn.Module]) -> Standing | None:
        if self._test is None:
            return None
        outputs = {
            kind: self._global_on_test if kind == GLOBAL else _outputs(model, self._test)
            for kind, model in models.items()
        }
        return standing(outputs, classes=CLASSES, present=self._test.class_counts.tolist())

    @cached_property
    def _global(self) -> nn.Module:
        return self._built(self._saved)

    @cached_property
    def _global_on_test(self) -> Outputs:
        assert self._test is not None
        return _outputs(self._global, self._test)


def save_models(folder: Path, site: str, models: Mapping[str, nn.Module], *, of: CheckpointFacts) -> list[Path]:
    """Write what was trained at a site, alone and tuned, uncalibrated, and return the files; raises `StorageError`.

    `of`: the facts about the global model.
    """
    facts = {
        ALONE: CheckpointFacts(model=of.model, classes=of.classes, image_size=of.image_size),
        TUNED: CheckpointFacts(
            model=of.model, classes=of.classes, image_size=of.image_size, run=of.run, round=of.round
        ),
    }
    paths = {kind: folder / f"{site}.{kind}.pth" for kind in facts}
    for kind, path in paths.items():
        checkpoint.save(path, models[kind].state_dict(), facts[kind])
    return list(paths.values())


def _outputs(model: nn.Module, data: ScanLoader) -> Outputs:
    found, labels = predictions(model, data, batch_size=_BATCH)
    settled = torch.nan_to_num(found, nan=0.0)  # outputs that are not finite count as `metrics_of` counts them
    return Outputs(probabilities=settled, calibrated=settled, labels=labels)
