"""Virtual federations on real code: hospitals out of one split of a data set, and a grid of cells run on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch

from data.cache import CachePlace
from data.images import ScanSet
from data.loaders import ScanLoader
from data.splitting import SplitSettings
from fednet import torchrun
from fednet.aggregation.recipe import Recipe
from fednet.commands import wiring
from fednet.commands.demo import split_into
from fednet.config import PrivacySettings, RunSettings, WorkerName
from fednet.errors import DataError
from fednet.simulate.attacks import Attack
from fednet.simulate.attacks.sight import PoisonData
from fednet.simulate.federation import VirtualFederation, World
from fednet.simulate.grid import Cell, ResultFolder

_PHANTOMS_EACH = 40  # training images for a virtual hospital where there is no data set
_POLL_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs cells, with one world for each seed; several processes may share one folder."""

    folder: Path
    dataset: Path | None
    settings: RunSettings
    results: ResultFolder
    recipes: Mapping[str, Recipe]
    attacks: Mapping[str, Attack | None]
    scheme: str
    alpha: float
    root: int
    device: torch.device
    cache: CachePlace
    is_first: bool  # of the processes: this one makes the splits

    def run(self, cells: Sequence[Cell]) -> None:
        """Run those that have no result yet, and say after each how long the rest takes."""
        torch.set_num_threads(torchrun.own_threads())
        todo = [cell for cell in cells if self.results.find(cell) is None]
        if len(todo) < len(cells):
            click.echo(f"{len(cells) - len(todo)} of {len(cells)} cells are there already", err=True)
        began = time.monotonic()
        worlds: dict[int, World] = {}
        for done, cell in enumerate(todo, start=1):
            if cell.seed not in worlds:
                worlds = {cell.seed: self._world(self._settings(cell))}
            line = self._run_cell(cell, worlds[cell.seed])
            left = (time.monotonic() - began) / done * (len(todo) - done)
            click.echo(f"[{done}/{len(todo)}] {line}; about {left / 60:.0f} min left", err=True)

    def await_all(self, cells: Sequence[Cell]) -> None:
        """Wait for the cells of other processes; torchrun ends us all where one of them fails."""
        while any(self.results.find(cell) is None for cell in cells):
            time.sleep(_POLL_S)

    def _settings(self, cell: Cell) -> RunSettings:
        return replace(self.settings, seed=self.settings.seed + cell.seed)

    def _run_cell(self, cell: Cell, world: World) -> str:
        began = time.monotonic()
        recipe, attack = self.recipes[cell.recipe], self.attacks[cell.attack]
        found = VirtualFederation(world, self._settings(cell), recipe, attack, spool=self.folder / "spool").run()
        seconds = time.monotonic() - began
        self.results.keep(cell, found, seconds=seconds)
        last = f"accuracy {found.accuracy[-1]:.3f}" if found.accuracy else f"parked: {found.parked}"
        return f"{cell.recipe} under {cell.attack}, seed {cell.seed}: {last} ({seconds:.0f} s)"

    def _world(self, settings: RunSettings) -> World:
        folder = self.folder / "data" / f"seed-{settings.seed}"
        has_root = any(recipe.rule.needs_root for recipe in self.recipes.values())
        if self.is_first:
            split = SplitSettings(
                clients=settings.workers,
                scheme=self.scheme,
                alpha=self.alpha,
                seed=settings.seed,
                test_from="published" if self.dataset is None else "resplit",
                root=self.root,  # also where no rule asks for it: grids of one folder have the same hospitals
            )
            make_split(folder, self.dataset, split, image_size=settings.image_size)
        while not (folder / "split.json").exists():
            time.sleep(_POLL_S)
        return world_from(folder, settings, device=self.device, has_root=has_root, cache=self.cache)


def make_split(
    folder: Path, dataset: Path | None, settings: SplitSettings, *, image_size: int, phantoms: int | None = None
) -> None:
    """Split the data set, or phantoms, into `folder`, by hard links; a split that is there is kept.

    `phantoms`: how many there are to train on (default: so many for each hospital).
    """
    from data.phantoms import phantoms_named, write_phantoms

    if (folder / "split.json").exists():
        return
    source, name = dataset, dataset.resolve().name if dataset else ""
    if source is None:
        source = folder.with_name(f"{folder.name}-phantoms")
        training, testing = (phantoms or _PHANTOMS_EACH * settings.clients) + settings.root, 300
        name = phantoms_named(training + testing, image_size)
        write_phantoms(
            source,
            training=training,
            testing=testing,
            seed=settings.seed,
            size=image_size,
        )
    split_into(folder, source, replace(settings, dataset=name), link=True)


def world_from(
    folder: Path,
    settings: RunSettings,
    *,
    device: torch.device,
    has_root: bool,
    cache: CachePlace,
    mixes: bool | None = None,
    compiles: bool = False,
    privacy: PrivacySettings | None = None,
) -> World:
    """Return the world in a split; its hospitals are those of the split's client folders."""

    def load(name: str) -> ScanSet:
        return wiring.load_scans(
            folder / name, image_size=settings.image_size, max_bad_files=1.0, notice=lambda text: None, cache=cache
        )

    test = load("server_data/test")
    return World(
        hospitals={
            WorkerName(f"client{number:03}"): _poisonable(load(f"client{number}_data"), device)
            for number in range(1, settings.workers + 1)
        },
        test=ScanLoader(test, device),
        validation=ScanLoader(load("server_data/validation"), device),
        root=ScanLoader(load("server_data/root"), device) if has_root else None,
        triggered=lambda attack: _triggered(test, attack, device),
        new_model=lambda: wiring.new_model(
            settings.model, seed=settings.seed, pretrained="no", weights=None, notice=lambda text: None
        ),
        device=device,
        mixes=mixes,
        compiles=compiles,
        privacy=privacy,
    )


def _poisonable(scans: ScanSet, device: torch.device) -> Callable[[PoisonData | None], ScanLoader]:
    def data(poison: PoisonData | None) -> ScanLoader:
        if poison is None:
            return ScanLoader(scans, device)
        images, labels = poison(scans.images, scans.labels)
        return ScanLoader(replace(scans, images=images, labels=labels), device)

    return data


def _triggered(test: ScanSet, attack: Attack, device: torch.device) -> ScanLoader | None:
    """Return test scans of other classes than a backdoor's target, marked, all labelled as the target."""
    if attack.trigger is None or attack.target is None:
        return None
    others = test.labels != attack.target
    if not bool(others.any()):
        raise DataError("test set", found="no scan of another class than the backdoor's target")
    images = attack.trigger(test.images[others])
    labels = torch.full((len(images),), attack.target)
    return ScanLoader(replace(test, images=images, labels=labels), device)
