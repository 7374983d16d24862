"""What `gains` is given: models of one run, and sites' scans divided as by their workers; doubts about both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.classes import CLASSES
from data.holdout import hold_out
from data.images import ScanSet
from data.split_record import doubts_about_test
from fednet.errors import BadInput, ModelError, TooFewScans
from fednet.reporting.gains import FEWEST_OF_A_CLASS, thin_classes
from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointFacts

_SAMPLES = "samples"  # of `fednet.worker.workshop.SavedTraining`: on how many scans a worker's model was trained


@dataclass(frozen=True, kw_only=True)
class SiteScans:
    """One hospital's scans."""

    name: str  # its worker's
    folder: Path
    counts: tuple[int, ...]  # of each class, in the whole folder
    training: ScanSet
    held_out: ScanSet | None  # None where there are too few to hold any out: then all train


@dataclass(frozen=True)
class SharedTest:
    """Scans of a test set that all sites' models are judged on."""

    folder: Path
    scans: ScanSet

    @property
    def counts(self) -> tuple[int, ...]:
        """Return how many there are of each class."""
        return tuple(self.scans.class_counts().values())

    def doubts(self) -> list[str]:
        """Return why figures on it may say something else, or are left out."""
        return doubts_about_test(self.folder) + _thin(str(self.folder), self.scans, self.counts)


def own_models(paths: Sequence[Path], *, sites: int, of: CheckpointFacts) -> list[Checkpoint] | list[None]:
    """Return each site's own last model of the run, or None for each where none were given.

    Raises `BadInput` where they are not as many as the sites, `ModelError` where one cannot be of the run of `of`.
    """
    if not paths:
        return [None] * sites
    if len(paths) != sites:
        raise BadInput(
            "--own", found=f"{len(paths)} for {sites} folders", expected="one for each folder, in their order"
        )
    return [_own_model(path, of) for path in paths]


def divided(folder: Path, scans: ScanSet, *, share: float, name: str) -> SiteScans:
    """Return the scans of `folder` as `worker join --hold-out SHARE` of this name divides them; raises `DataError`."""
    held: ScanSet | None
    try:
        training, held = hold_out(folder, scans, share=share, worker=name)
    except TooFewScans:
        training, held = scans, None
    counts = tuple(scans.class_counts().values())
    return SiteScans(name=name, folder=folder, counts=counts, training=training, held_out=held)


def doubts_about(site: SiteScans, own: Checkpoint | None, *, run: str) -> list[str]:
    """Return which figures a site has not and why, and what its own model says against it or its held-out scans."""
    doubts = _doubts_about_held_out(site)
    if own is None:
        return doubts
    if own.facts.run != run:
        doubts.append(f"{site.name}'s own model is of another run than --model")
    trained_on, left = own.facts.extra[_SAMPLES], len(site.training.labels)
    if trained_on != left:
        doubts.append(
            f"{site.name}'s own model was trained on {trained_on} scans, not on the {left} that are left here: it held "
            "out others or none, and held-out figures of it and of the global model flatter"
        )
    return doubts


def _own_model(path: Path, of: CheckpointFacts) -> Checkpoint:
    own = checkpoint.load(path)
    found, expected = _kind(own.facts), _kind(of)
    if found != expected:
        raise ModelError(f"--own {path}", found=found, expected=f"{expected}, as --model")
    if not isinstance(own.facts.extra.get(_SAMPLES), int):
        raise ModelError(f"--own {path}", found="a model that no worker saved", expected="a hospital's client_<id>.pth")
    return own


def _kind(facts: CheckpointFacts) -> str:
    return f"a {facts.model} for {facts.image_size} pixels and the classes {', '.join(facts.classes)}"


def _doubts_about_held_out(site: SiteScans) -> list[str]:
    if site.held_out is None:
        return [f"{site.name} has too few scans to hold one out: no figures on scans of its own"]
    return _thin(f"those held out at {site.name}", site.held_out, site.counts)


def _thin(what: str, scans: ScanSet, present: Sequence[int]) -> list[str]:
    """Return why there is no macro F1 on `scans`, or nothing; `present`: of each class, where these come from."""
    thin = ", ".join(CLASSES[label] for label in thin_classes(scans.labels, present))
    return [f"fewer than {FEWEST_OF_A_CLASS} scans of {thin} are among {what}: no macro F1"] if thin else []
