"""A grid of attacks x recipes x seeds: one result file a cell, so that it can be stopped, spread and resumed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fednet.config import NAME_PATTERN
from fednet.errors import BadInput
from fednet.simulate.federation import Simulated
from fednet.storage.atomic import write_json

UNATTACKED = "none"
LAST_ROUNDS = 3  # a cell's figures are means over so many: single rounds swing


@dataclass(frozen=True, order=True)
class Cell:
    """One virtual federation."""

    seed: int
    attack: str
    recipe: str

    @property
    def file_name(self) -> str:
        """Return where its result is kept."""
        parts = (self.recipe, self.attack, f"seed{self.seed}")
        return "--".join("".join(c if NAME_PATTERN.fullmatch(c) or c in "+=" else "_" for c in part) for part in parts)


def cells_of(recipes: Sequence[str], attacks: Sequence[str], seeds: int) -> list[Cell]:
    """Return all cells, seed by seed, so that a stopped grid has whole tables of the first seeds."""
    return [Cell(seed, attack, recipe) for seed in range(seeds) for attack in attacks for recipe in recipes]


class ResultFolder:
    """The results of a grid; those of other settings are refused, never mixed in."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Raises `BadInput` where the folder holds a grid of other settings."""
        self._folder = folder / "cells"
        self._folder.mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        if path.exists() and json.loads(path.read_text()) != settings:
            raise BadInput(f"--out {folder}", found="a grid of other settings", todo="choose another folder")
        write_json(path, settings)

    def find(self, cell: Cell) -> Simulated | None:
        """Return what an earlier run found of a cell, or None."""
        path = self._folder / f"{cell.file_name}.json"
        return Simulated(**json.loads(path.read_text())["found"]) if path.exists() else None

    def keep(self, cell: Cell, found: Simulated, *, seconds: float) -> None:
        """Write a cell's result."""
        write_json(
            self._folder / f"{cell.file_name}.json",
            {"cell": asdict(cell), "seconds": round(seconds, 1), "found": asdict(found)},
        )


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One attack against one recipe: means over seeds, of each over its last rounds."""

    recipe: str
    attack: str
    seeds: int
    attackers: int
    byzantine: int  # f, which the rule was told
    accuracy: float
    spread: float  # standard deviation of the accuracy over seeds, 0 of one
    worst_recall: float  # of the class that is recognised worst
    attackers_selected: float  # share of attackers' updates that counted, over all rounds
    honest_rejected: float  # share of honest updates that did not count, over all rounds
    attack_success: float | None  # of a backdoor
    parked: int  # how many of the seeds could not be aggregated to the end
    epsilon: float | None = None  # that client-level privacy has spent at most, where there is any


def summaries(
    recipes: Sequence[str],
    attacks: Sequence[str],
    seeds: int,
    *,
    workers: int,
    byzantine: int,
    find: Callable[[Cell], Simulated | None],
) -> list[Summary]:
    """Return one summary for each attack and recipe of which there is a result."""
    made = []
    for recipe in recipes:
        for attack in attacks:
            found = [each for seed in range(seeds) if (each := find(Cell(seed, attack, recipe))) is not None]
            if found:
                made.append(_summary(recipe, attack, found, workers, byzantine))
    return made


def _summary(recipe: str, attack: str, found: Sequence[Simulated], workers: int, byzantine: int) -> Summary:
    accuracy = [_late_mean(each.accuracy) for each in found]
    success = [each.attack_success for each in found if each.attack_success is not None]
    attackers = len(found[0].attackers)
    return Summary(
        recipe=recipe,
        attack=attack,
        seeds=len(found),
        attackers=attackers,
        byzantine=byzantine,
        accuracy=statistics.fmean(accuracy),
        spread=statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0,
        worst_recall=statistics.fmean(_late_mean(each.worst_recall) for each in found),
        attackers_selected=_mean(count / attackers for each in found for count in each.attackers_selected if attackers),
        honest_rejected=_mean(len(names) / (workers - attackers) for each in found for names in each.honest_rejected),
        attack_success=statistics.fmean(success) if success else None,
        parked=sum(each.parked is not None for each in found),
        epsilon=max((each.epsilon for each in found if each.epsilon is not None), default=None),
    )


def _late_mean(values: Sequence[float]) -> float:
    return _mean(values[-LAST_ROUNDS:])


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return statistics.fmean(listed) if listed else 0.0


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What an attacker of one's choosing costs a recipe, in accuracy (0 to 1)."""

    recipe: str
    unattacked: float | None
    worst: float
    worst_attack: str
    average: float  # over the attacks


def robustness(found: Sequence[Summary]) -> list[Robustness]:
    """Return one line for each recipe that was attacked, in the order of their first appearance."""
    lines = []
    for recipe in dict.fromkeys(each.recipe for each in found):
        own = {each.attack: each.accuracy for each in found if each.recipe == recipe}
        unattacked = own.pop(UNATTACKED, None)
        if own:
            worst = min(own, key=own.__getitem__)
            lines.append(
                Robustness(
                    recipe=recipe,
                    unattacked=unattacked,
                    worst=own[worst],
                    worst_attack=worst,
                    average=statistics.fmean(own.values()),
                )
            )
    return lines
