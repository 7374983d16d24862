"""What a finished run hands on: `final.pth` and `best.pth` with their calibration, and a model card beside each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fednet.coordinator.expected_files import BEST, CHECKPOINTS, FINAL
from fednet.coordinator.record import EndedRun, SaveModel
from fednet.ranking import best_of
from fednet.reporting.card_text import card_text
from fednet.reporting.examination import Examined
from fednet.reporting.model_card import ModelFacts, Origin, card_files, model_card
from fednet.storage.atomic import write_json, write_text
from fednet.storage.store import CommittedRound, checkpoint_name
from fednet.tensors import digest_of

LoadModel = Callable[[Path], torch.Tensor]
"""Returns the flat model (uint8) in a checkpoint."""

Examine = Callable[[torch.Tensor], Examined]
"""Looks at a flat model (uint8) with the coordinator's own scans; calibrates by validation alone."""

Notice = Callable[[str], None]


class Handover:
    """Satisfies `fednet.coordinator.record.HandOn`: the same run gives the same files, however often it is done."""

    def __init__(
        self,
        *,
        load: LoadModel,
        save: SaveModel,
        examine: Examine,
        notice: Notice,
        split: Mapping[str, Any] | None = None,
    ) -> None:
        """`split`: the `split.json` that the coordinator's scans come from."""
        self._load, self._save, self._examine, self._notice = load, save, examine, notice
        self._split = split

    def __call__(self, ended: EndedRun) -> None:
        """Write the last round's model and the best one's, calibrated, and their cards. Raises `StorageError`."""
        last, best = ended.rounds[-1], _best(ended.rounds)
        models = {number: self._load(_checkpoint(ended, number)) for number in {last.round, best.round}}
        found = {number: self._examine(model) for number, model in models.items()}
        for file, kind, number in ((FINAL, "the last", last.round), (BEST, "the best by validation", best.round)):
            also = "" if best.model_sha256 != last.model_sha256 else BEST if file == FINAL else FINAL
            facts = _facts(ended, models[number], file=file, kind=kind, also=also, number=number)
            self._write(ended, models[number], facts, found[number])
            if not found[number].extra:
                self._notice(f"{ended.folder / file} is not calibrated: {found[number].calibration['why']}")

    def _write(self, ended: EndedRun, model: torch.Tensor, facts: ModelFacts, found: Examined) -> None:
        path = ended.folder / facts.file
        self._save(path, model, {"round": facts.round, "run": ended.run, "extra": found.extra})
        write_card(path, model_card(facts, self._origin(ended), [each.document for each in ended.rounds], found))

    def _origin(self, ended: EndedRun) -> Origin:
        return Origin(
            run=ended.run,
            software=ended.record.fields.get("software", {}),
            settings=ended.settings.to_dict(),
            begun_s=ended.began.get("signed_s"),
            ended_s=ended.record.fields.get("signed_s"),
            record=ended.record.digest,
            split=self._split,
        )


def write_card(model: Path, card: Mapping[str, Any]) -> Path:
    """Put a model's card beside its file, as JSON and for people, and return the latter. Raises `StorageError`."""
    in_json, in_markdown = (model.with_name(name) for name in card_files(model.name))
    write_json(in_json, card)
    write_text(in_markdown, card_text(card))
    return in_markdown


def _facts(ended: EndedRun, model: torch.Tensor, *, file: str, kind: str, also: str, number: int) -> ModelFacts:
    return ModelFacts(
        file=file,
        kind=kind,
        also=also,
        round=number,
        sha256=digest_of(model),
        architecture=ended.settings.model,
        classes=ended.settings.classes,
        image_size=ended.settings.image_size,
    )


def _best(rounds: Sequence[CommittedRound]) -> CommittedRound:
    best = best_of([each.document for each in rounds])
    return next(each for each in rounds if each.round == best)


def _checkpoint(ended: EndedRun, number: int) -> Path:
    return ended.folder / CHECKPOINTS / checkpoint_name(number)
