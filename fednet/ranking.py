"""Which of a run's rounds has the best model, and whether its rounds are over: by validation alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fednet.config import RunSettings

Document = Mapping[str, Any]
"""A committed round as the run's database keeps it."""


def best_of(documents: Sequence[Document]) -> int:
    """Return the round with the best model by validation alone; of equal ones the first."""
    return int(max(documents, key=_validation_rank)["round"])


def is_complete(documents: Sequence[Document], settings: RunSettings) -> bool:
    """Whether all rounds are done, or the run ends early: no better validation, or no privacy left to spend."""
    return len(documents) >= settings.rounds or ends_early(documents, settings)


def ends_early(documents: Sequence[Document], settings: RunSettings) -> bool:
    """Whether these rounds are the last, however many were asked for."""
    return stops_early(documents, settings.early_stop) or privacy_is_spent(documents, settings)


def privacy_is_spent(documents: Sequence[Document], settings: RunSettings) -> bool:
    """Whether another round would spend more client-level privacy than the run may."""
    limit = settings.client_privacy.epsilon
    told = (documents[-1].get("client_privacy") if documents else None) or {}
    return bool(limit) and told.get("epsilon_of_another", 0.0) > limit


def stops_early(documents: Sequence[Document], early_stop: int) -> bool:
    """Whether the last `early_stop` rounds brought no better model than the best before them; 0: never."""
    return bool(early_stop and documents) and documents[-1]["round"] - best_of(documents) >= early_stop


def _validation_rank(document: Document) -> tuple[float, float, int]:
    validation = document.get("validation") or {}
    return validation.get("macro_f1", 0.0), -validation.get("loss", 0.0), -document["round"]
