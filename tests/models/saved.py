"""Saved models with seeded weights, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data.classes import CLASSES
from models import checkpoint
from models.checkpoint import CheckpointFacts
from models.registry import build
from tests.worker.fakes import seeded


def write_model(
    path: Path, name: str = "small-cnn", *, image_size: int = 32, extra: dict[str, Any] | None = None
) -> Path:
    """Write an untrained model whose logits lie well apart."""
    with seeded(7):
        model = build(name, classes=len(CLASSES))
    state = model.state_dict()
    state["fc.weight"] *= 20
    facts = CheckpointFacts(model=name, classes=CLASSES, image_size=image_size, run="test", extra=extra or {})
    checkpoint.save(path, state, facts)
    return path
