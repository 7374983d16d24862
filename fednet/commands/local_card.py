"""`train-local --save`: the saved model gets its calibration and a model card, as those of a run do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fednet.commands import wiring
from fednet.commands.local_training import local_settings
from fednet.config import RunSettings
from fednet.coordinator.handover import write_card
from fednet.reporting.model_card import ModelFacts, Origin, model_card
from fednet.tensors import Manifest, digest_of, pack
from models import checkpoint


def leave_card(
    path: Path,
    *,
    judge: wiring.ServerJudge,
    manifest: Manifest,
    settings: RunSettings,
    history: Sequence[Mapping[str, Any]],
    folders: Sequence[Path],
    counts: Sequence[Mapping[str, int]],
    privacy: Mapping[str, float] | None = None,
) -> Path:
    """Calibrate the model in `path` by validation, put its card beside it and return that. Raises `StorageError`.

    `history`: what was found after each round; `counts`: scans by class that were trained on, of each folder;
    `privacy`: `epsilon` and `delta` that was spent of them, where differential privacy was kept.
    """
    saved = checkpoint.load(path)
    facts, model = saved.facts, pack(saved.state, manifest)
    found = judge.examine(model)
    checkpoint.save(path, saved.state, replace(facts, extra={**facts.extra, **found.extra}))
    described = ModelFacts(
        file=path.name,
        kind="the best by validation",
        round=facts.round,
        sha256=digest_of(model),
        architecture=facts.model,
        classes=facts.classes,
        image_size=facts.image_size,
    )
    origin = Origin(
        run="",
        software=wiring.software(),
        settings=local_settings(settings),
        split=judge.split_record(),
        sites=dict(zip(_names(folders), counts, strict=True)),
        spent={name: privacy for name in _names(folders) if privacy},
    )
    return write_card(path, model_card(described, origin, history, found))


def _names(folders: Sequence[Path]) -> list[str]:
    """Return what the folders are called, without where on this machine they lie."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names, start=1)]
