"""A committed round's document, for tests."""

from __future__ import annotations

from typing import Any

DOCUMENT: dict[str, Any] = {
    "round": 2,
    "test": {"accuracy": 0.5, "macro_f1": 0.25},
    "updates": [
        {"worker": "client1", "selected": True, "reason": "selected"},
        {"worker": "client2", "selected": False, "reason": "rejected: it points away"},
    ],
    "seconds": {"train": 1.0, "transfer": 0.25, "aggregate": 0.1, "evaluate": 2.0, "commit": 0.1},
}


def round_document(number: int, accuracy: float) -> dict[str, Any]:
    """Return a round of two workers that took a minute; client2 was rejected."""
    test = {"accuracy": accuracy, "macro_f1": accuracy / 2, "loss": 1.0 - accuracy}
    seconds = DOCUMENT["seconds"] | {"round": 60.0}
    return DOCUMENT | {"round": number, "test": test, "validation": test, "seconds": seconds}
