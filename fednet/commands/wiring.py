"""Where commands join `models` and `data` to the framework, which knows neither."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn

from data.cache import CachePlace, ScanCache, nowhere
from data.classes import CLASSES, NO_FINDING
from data.images import ScanSet, load_folder
from data.loaders import ScanLoader
from fednet import __version__
from fednet.aggregation.batch_norm import Refitter
from fednet.aggregation.server_optimizer import FRESH, ServerState, state_from
from fednet.aggregation.strategy import Trust
from fednet.config import RunSettings, derived_seed
from fednet.errors import BadInput, ModelError
from fednet.reporting.examination import Examined, examined
from fednet.reporting.metrics import StepJudge, evaluate, logits_of
from fednet.reporting.reading import reading_shown
from fednet.tensors import Manifest, manifest_of, pack, parameters_of, update_from, views
from fednet.worker.compute import Compute
from fednet.worker.training import train
from fednet.worker.workshop import Rounded, SavedTraining
from models import checkpoint
from models.checkpoint import Checkpoint, CheckpointFacts
from models.pretrained import Pretrained, start_from
from models.registry import build

Notice = Callable[[str], None]


def software() -> dict[str, str]:
    """Return the versions of what decides a run's numbers."""
    return {
        "fednet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def load_scans(
    folder: Path,
    *,
    image_size: int,
    max_bad_files: float,
    notice: Notice,
    cache: CachePlace = nowhere,
    quiet: bool = False,
) -> ScanSet:
    """Return the scans of a folder and say what was skipped and which classes are missing."""
    place = cache(folder)
    kept = ScanCache(place, folder, image_size, notice=notice) if place is not None else None
    with reading_shown(str(folder), notice=notice, quiet=quiet) as progress:
        scans = load_folder(
            folder, image_size=image_size, max_bad_fraction=max_bad_files, cache=kept, progress=progress
        )
    for bad in scans.skipped:
        notice(f"skipped {bad.path}: cannot be read ({bad.reason})")
    counts = scans.class_counts()
    missing = [name for name, count in counts.items() if count == 0]
    source = f", {scans.from_cache} from the cache" if scans.from_cache else ""
    notice(f"{folder}: {len(scans.labels)} scans ({', '.join(f'{name} {n}' for name, n in counts.items())}){source}")
    if kept is not None and kept.added:
        notice(f"{kept.place} keeps what was decoded ({kept.nbytes / 1e6:.1f} MB of pixels); --no-cache keeps none")
    if missing:
        notice(f"{folder} has no scan of {', '.join(missing)}; the other sites must teach the model that")
    return scans


def new_model(name: str, *, seed: int, pretrained: str, weights: Path | None, notice: Notice) -> nn.Module:
    """Return a model with its starting weights; from scratch they are decided by `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "initial weights"))
        model = build(name, classes=len(CLASSES))
    start_from(model, name, pretrained=Pretrained(pretrained), weights=weights, notice=notice)
    return model


def manifest_for(model: nn.Module) -> Manifest:
    """Return the layout of a model's state."""
    return manifest_of(model.state_dict(), [name for name, _ in model.named_parameters()])


class CheckpointWriter:
    """Writes flat models of one run as `.pth` files, and reads them back."""

    def __init__(self, settings: RunSettings, manifest: Manifest) -> None:
        self._settings = settings
        self._manifest = manifest

    def save(self, path: Path, flat: torch.Tensor, facts: dict[str, Any]) -> None:
        """Write `flat` (uint8) atomically; `facts` may hold `run`, `round` and `extra`."""
        settings = self._settings
        described = CheckpointFacts(
            model=settings.model, classes=settings.classes, image_size=settings.image_size, **facts
        )
        checkpoint.save(path, views(flat, self._manifest), described)

    def load(self, path: Path) -> tuple[torch.Tensor, CheckpointFacts]:
        """Return (flat uint8 model, facts); raises `ModelError` when the file is not of this architecture."""
        found = checkpoint.load(path)
        if found.facts.model != self._settings.model:
            raise ModelError(f"model {path}", found=found.facts.model, expected=self._settings.model)
        checkpoint.load_state(found.build(), found.state, what=f"model {path}")
        return pack(found.state, self._manifest), found.facts

    def load_server(self, path: Path) -> tuple[torch.Tensor, ServerState]:
        """Return (flat uint8 model, what the server's optimiser remembers with it); raises `ModelError`."""
        flat, facts = self.load(path)
        stored = facts.extra.get("server")
        if facts.round == 0 or (stored is None and self._settings.server.optimizer == "none"):
            return flat, FRESH
        return flat, state_from(stored, self._settings.server, width=self._manifest.parameter_count)


class OwnModelFile:
    """A hospital's `client_<id>.pth`. Satisfies `fednet.worker.workshop.OwnModel`."""

    def __init__(self, path: Path, writer: CheckpointWriter) -> None:
        self._path = path
        self._writer = writer

    def save(self, flat: torch.Tensor, saved: SavedTraining) -> None:
        """Write the model and the round it comes from."""
        self._writer.save(self._path, flat, {"run": saved.run, "round": saved.round, "extra": asdict(saved)})

    def load(self) -> tuple[torch.Tensor, SavedTraining] | None:
        """Return what is there; a file of something else is simply not a saved training."""
        if not self._path.exists():
            return None
        try:
            flat, facts = self._writer.load(self._path)
            return flat, SavedTraining(**facts.extra)
        except (ModelError, TypeError):
            return None

    def save_rounded(self, rounded: Rounded) -> None:
        """Write `client_<id>.rounded.pth` beside the model."""
        checkpoint.save_document(
            self._rounded_path, {field.name: getattr(rounded, field.name) for field in fields(rounded)}
        )

    def load_rounded(self) -> Rounded | None:
        """Return what is there; a file of something else is simply no rounded update."""
        if not self._rounded_path.exists():
            return None
        try:
            return Rounded(**checkpoint.load_document(self._rounded_path))
        except (ModelError, TypeError):
            return None

    @property
    def _rounded_path(self) -> Path:
        return self._path.with_suffix(".rounded.pth")


class RootOfTrust:
    """The coordinator's own labelled scans: what a hospital would learn from them, and how a candidate does on them."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: RunSettings,
        manifest: Manifest,
        device: torch.device,
        max_bad_files: float,
        notice: Notice,
        cache: CachePlace = nowhere,
        quiet: bool = False,
    ) -> None:
        scans = load_scans(
            folder,
            image_size=settings.image_size,
            max_bad_files=max_bad_files,
            notice=notice,
            cache=cache,
            quiet=quiet,
        )
        self._data = ScanLoader(scans, device)
        self._model = new_model(settings.model, seed=0, pretrained="no", weights=None, notice=notice).to(device)
        self._settings, self._manifest, self._compute = settings, manifest, Compute(device)

    def __call__(self, base: torch.Tensor, round_number: int) -> Trust:
        """Train on the scans as a worker does, from the round's global model `base` (uint8 flat)."""
        self._model.load_state_dict(views(base, self._manifest))
        train(
            self._model,
            self._data,
            self._settings.training_in(round_number),
            seed=derived_seed(self._settings.seed, "root", round_number),
            compute=self._compute,
        )
        update = update_from(pack(self._model.state_dict(), self._manifest), base, self._manifest)
        judge = StepJudge(self._model, self._data, base=base, manifest=self._manifest)
        return Trust(update=parameters_of(update, self._manifest), loss=judge.loss, gradient=judge.gradient)


def root_of_trust(
    data: Path,
    *,
    settings: RunSettings,
    manifest: Manifest,
    device: torch.device,
    max_bad_files: float,
    notice: Notice,
    cache: CachePlace = nowhere,
    quiet: bool = False,
) -> RootOfTrust:
    """Return the root of trust in `data`/root; raises `BadInput` where there is none."""
    folder = data / "root"
    if not folder.is_dir():
        raise BadInput(
            f"{folder}",
            found="no such folder",
            expected=f"labelled scans of the coordinator's own: {settings.recipe_name} judges updates by them",
            todo="`cli.py split --root 160` puts some aside",
        )
    return RootOfTrust(
        folder,
        settings=settings,
        manifest=manifest,
        device=device,
        max_bad_files=max_bad_files,
        notice=notice,
        cache=cache,
        quiet=quiet,
    )


class ServerJudge:
    """Evaluates flat global models on the coordinator's own folders: `test` reports, `validation` chooses."""

    def __init__(
        self,
        folder: Path,
        *,
        model: nn.Module,
        manifest: Manifest,
        image_size: int,
        device: torch.device,
        max_bad_files: float,
        notice: Notice,
        cache: CachePlace = nowhere,
        quiet: bool = False,
    ) -> None:
        self._model = model.to(device)
        self._manifest = manifest
        self._folder = folder
        parts = {"validation": folder / "validation", "test": folder / "test"}
        self._data = {
            name: ScanLoader(
                load_scans(
                    path,
                    image_size=image_size,
                    max_bad_files=max_bad_files,
                    notice=notice,
                    cache=cache,
                    quiet=quiet,
                ),
                device,
            )
            for name, path in parts.items()
        }

    def __call__(self, flat: torch.Tensor) -> dict[str, Any]:
        """Return {"validation": metrics, "test": metrics} of a flat model (uint8)."""
        self._model.load_state_dict(views(flat, self._manifest))
        return {name: evaluate(self._model, data, classes=CLASSES).to_dict() for name, data in self._data.items()}

    @property
    def refit(self) -> Refitter:
        """What takes a model's BatchNorm statistics anew from the validation scans."""
        return Refitter(self._model, self._data["validation"], self._manifest)

    def examine(self, flat: torch.Tensor) -> Examined:
        """Calibrate a flat model (uint8) by validation, and say what its answers to the test set are worth."""
        self._model.load_state_dict(views(flat, self._manifest))
        answers = {name: logits_of(self._model, data) for name, data in self._data.items()}
        return examined(answers["validation"], answers["test"], classes=CLASSES, negative=CLASSES.index(NO_FINDING))

    def split_record(self) -> dict[str, Any] | None:
        """Return `split.json` without its files, where one beside the folder counts as many scans of each class."""
        try:
            split = json.loads((self._folder.resolve().parent / "split.json").read_bytes())
            counts = {name: split["sites"][f"server_data/{name}"] for name in self._data}
            whole = {name: value for name, value in split.items() if name != "files"}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        own = {name: list(data.scans.class_counts().values()) for name, data in self._data.items()}
        return whole if counts == own else None


def load_checkpoint(path: Path) -> Checkpoint:
    """Return a saved model of any architecture; raises `ModelError`."""
    return checkpoint.load(path)


def load_classifier(path: Path) -> Checkpoint:
    """Return a saved model of the classes that scans are labelled by, in their order; raises `ModelError`."""
    saved = checkpoint.load(path)
    if saved.facts.classes != CLASSES:
        raise ModelError(
            f"--model {path}", found=f"classes {', '.join(saved.facts.classes)}", expected=", ".join(CLASSES)
        )
    return saved
