"""`gains`: divides sites' scans as their workers do, and has the models that a site may choose from trained and judged.

Each site gets its own: trained on its scans alone, the global one, that one tuned to it, and what it trained last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from data.classes import CLASSES
from data.holdout import hold_out
from data.images import ScanSet
from data.loaders import ScanLoader
from fednet.commands import wiring
from fednet.commands.local_training import train_alone
from fednet.config import RunSettings, TrainingSettings, derived_seed
from fednet.errors import ModelError, TooFewScans
from fednet.reporting.gains import ALONE, GLOBAL, OWN, TUNED, FEWEST_OF_A_CLASS, Standing, standing, thin_classes
from fednet.reporting.intervals import Outputs
from fednet.reporting.metrics import predictions
from fednet.worker.compute import Compute
from fednet.worker.training import train
from models.checkpoint import Checkpoint, CheckpointFacts

Notice = Callable[[str], None]

_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class SiteScans:
    """One hospital's scans, divided as its worker divides them."""

    name: str  # the worker's
    folder: Path
    counts: tuple[int, ...]  # of each class, in the whole folder
    training: ScanSet
    held_out: ScanSet | None  # None where there are too few to hold any out: then all train


@dataclass(frozen=True, kw_only=True)
class SiteGains:
    """What one site gains from joining."""

    name: str
    folder: Path
    scans: int  # in its folder
    trained_on: int
    held_out: Standing | None  # on the scans that it holds out
    test: Standing | None  # on a test set that all sites share


def divided(folder: Path, scans: ScanSet, *, share: float, name: str) -> SiteScans:
    """Return the scans of `folder` as `worker join --hold-out SHARE` of this name divides them; raises `DataError`."""
    held: ScanSet | None
    try:
        training, held = hold_out(folder, scans, share=share, worker=name)
    except TooFewScans:
        training, held = scans, None
    return SiteScans(
        name=name, folder=folder, counts=tuple(scans.class_counts().values()), training=training, held_out=held
    )


def doubts_about_classes(what: str, scans: ScanSet, present: Sequence[int]) -> list[str]:
    """Return why there is no macro F1 on `scans`, or nothing; `present`: scans of each class where they come from."""
    thin = ", ".join(CLASSES[label] for label in thin_classes(scans.labels, present))
    return [f"fewer than {FEWEST_OF_A_CLASS} scans of {thin} are among {what}: no macro F1 on them"] if thin else []


def doubts_about_site(site: SiteScans, own: Checkpoint | None) -> list[str]:
    """Return what is not told of a site and why, and what its own model says against its held-out scans."""
    if site.held_out is None:
        return [f"{site.name} has too few scans to hold any out: no figures on its own scans"]
    doubts = doubts_about_classes(f"those that {site.name} holds out", site.held_out, site.counts)
    trained_on = None if own is None else own.facts.extra.get("samples")
    if trained_on not in (None, len(site.training.labels)):
        doubts.append(
            f"{site.name}'s own model was trained on {trained_on} scans, not on the {len(site.training.labels)} that "
            "are left here: it held out others, or none, and the held-out figures of the run's models flatter"
        )
    return doubts


def require_same_kind(path: Path, own: CheckpointFacts, of: CheckpointFacts) -> None:
    """Raise `ModelError` where a hospital's model in `path` cannot be of the run that made the global one."""
    kinds = [f"a {facts.model} for {facts.image_size} pixels and {', '.join(facts.classes)}" for facts in (own, of)]
    if kinds[0] != kinds[1]:
        raise ModelError(f"--own {path}", found=kinds[0], expected=f"{kinds[1]}, as --model")


class Contest:
    """Trains and judges each site's models, all by the same settings and from the same starting weights."""

    def __init__(
        self,
        saved: Checkpoint,
        start: nn.Module,
        *,
        settings: RunSettings,
        tuning: TrainingSettings,
        test: ScanSet | None,
        device: torch.device,
        notice: Notice,
    ) -> None:
        """`start`: a model of the same architecture, with the weights that a site's own training starts from."""
        self._saved = saved
        self._start = {name: value.clone() for name, value in start.state_dict().items()}
        self._settings, self._tuning = settings, tuning
        self._test = None if test is None else ScanLoader(test, device)
        self._device, self._notice = device, notice
        self._compute = Compute(device, notice=notice)
        self._global = saved.build().to(device)

    def models(self, site: SiteScans, own: Checkpoint | None) -> dict[str, nn.Module]:
        """Return the site's models by their names in `fednet.reporting.gains`, in the order of the table."""
        data = ScanLoader(site.training, self._device)
        found = {ALONE: self._alone(site.name, data), GLOBAL: self._global, TUNED: self._tuned(site.name, data)}
        return found if own is None else found | {OWN: own.build().to(self._device)}

    def judged(self, site: SiteScans, models: dict[str, nn.Module]) -> SiteGains:
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
        model = self._saved.build()
        model.load_state_dict(self._start)
        model.to(self._device)
        for number, result in train_alone(model, data, self._settings, compute=self._compute):
            self._notice(
                f"{name} alone, round {number} of {self._settings.rounds}: loss {result.mean_loss:.3f}, "
                f"{result.train_s:.1f} s"
            )
        return model

    def _tuned(self, name: str, data: ScanLoader) -> nn.Module:
        model = self._saved.build().to(self._device)
        seed = derived_seed(self._settings.seed, "tuning")
        result = train(model, data, self._tuning, seed=seed, compute=self._compute)
        self._notice(f"{name} tuned: loss {result.mean_loss:.3f}, {result.train_s:.1f} s")
        return model

    def _on_held_out(self, site: SiteScans, models: dict[str, nn.Module]) -> Standing | None:
        if site.held_out is None:
            return None
        data = ScanLoader(site.held_out, self._device)
        outputs = {kind: _outputs(model, data) for kind, model in models.items()}
        return standing(outputs, classes=CLASSES, present=site.counts)

    def _on_test(self, models: dict[str, nn.Module]) -> Standing | None:
        if self._test is None:
            return None
        outputs = {
            kind: self._global_on_test if kind == GLOBAL else _outputs(model, self._test)
            for kind, model in models.items()
        }
        return standing(outputs, classes=CLASSES, present=self._test.class_counts.tolist())

    @cached_property
    def _global_on_test(self) -> Outputs:
        assert self._test is not None
        return _outputs(self._global, self._test)


def _outputs(model: nn.Module, data: ScanLoader) -> Outputs:
    found, labels = predictions(model, data, batch_size=_BATCH)
    settled = torch.nan_to_num(found, nan=0.0)  # of outputs that are not finite, as `metrics_of` takes them
    return Outputs(probabilities=settled, calibrated=settled, labels=labels)
