from datetime import UTC, datetime
from typing import Any

import pytest

from fednet.config import TrainingSettings
from fednet.worker.consent import Circumstances, WorkerConsent
from fednet.worker.hours import window_from
from tests.federation import settings

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
GIB = 2**30


@pytest.mark.parametrize(
    ("agreed", "asked", "objection"),
    [
        ({}, {}, None),
        ({"models": ("tiny", "other")}, {}, None),
        ({"models": ("resnet18",)}, {}, "trains tiny, this worker agreed to resnet18 only"),
        ({"models": ("a", "b")}, {}, "agreed to a or b only"),
        ({"max_rounds": 2}, {"rounds": 2}, None),
        ({"max_rounds": 2}, {"rounds": 3}, "3 rounds, at most 2 agreed"),
        ({"compression": "required"}, {"compress": "int8"}, None),
        ({"compression": "required"}, {}, "compression is required"),
        ({"compression": "off"}, {}, None),
        ({"compression": "off"}, {"compress": "zstd"}, "travel as zstd, agreed is no compression"),
        ({}, {"training": {"local_epochs": 50}}, None),
        ({}, {"training": {"local_epochs": 51}}, "local epochs 51 asked, at most 50 agreed (--max-epochs)"),
        ({"max_local_epochs": 1.5}, {"training": {"local_epochs": 2}}, "at most 1.5 agreed"),
        ({}, {"training": {"learning_rate": 1.0}}, None),
        ({}, {"training": {"learning_rate": 1.01}}, "learning rate 1.01 asked, at most 1 agreed (--max-lr)"),
        ({"min_learning_rate": 0.1}, {"training": {"learning_rate": 0.1}}, None),
        ({"min_learning_rate": 0.1}, {"training": {"learning_rate": 0.09}}, "at least 0.1 agreed"),
        ({"max_batch_size": 32}, {"training": {"batch_size": 32}}, None),
        ({"max_batch_size": 32}, {"training": {"batch_size": 33}}, "batch size 33 asked, at most 32 agreed"),
    ],
)
def test_a_run_that_goes_beyond_consent_is_objected_to(
    agreed: dict[str, Any], asked: dict[str, Any], objection: str | None
) -> None:
    training = TrainingSettings(**asked.get("training", {}))
    found = WorkerConsent(**agreed).objection_to_run(settings(**(asked | {"training": training})))
    assert (found is None) if objection is None else (found is not None and objection in found)


def test_every_objection_is_said() -> None:
    consent = WorkerConsent(models=("resnet18",), max_rounds=1, max_local_epochs=2)
    found = consent.objection_to_run(settings(rounds=2, training=TrainingSettings(local_epochs=3)))
    assert found is not None
    assert len(found.split("; ")) == 3


@pytest.mark.parametrize(
    ("agreed", "found", "objection"),
    [
        ({}, {}, None),
        ({"hours": (window_from("08:00-13:00"),)}, {}, None),
        ({"hours": (window_from("20:00-06:00"),)}, {}, "it is Mon 12:00 here, training begins only within 20:00-06:00"),
        ({"min_free_memory_gib": 4.0}, {"free_memory_bytes": 4 * GIB}, None),
        ({"min_free_memory_gib": 4.0}, {"free_memory_bytes": 4 * GIB - 1}, "at least 4 GiB agreed"),
        ({"min_free_memory_gib": 4.0}, {}, "cannot be told"),
        ({"max_memory_share": 0.5}, {"own_memory_share": 0.5}, None),
        ({"max_memory_share": 0.5}, {"own_memory_share": 0.6}, "holds 60% of its machine's memory, at most 50%"),
        ({"max_memory_share": 0.5}, {}, "cannot be told"),
        ({"min_free_gpu_memory_gib": 2.0}, {"free_gpu_memory_bytes": 3 * GIB}, None),
        ({"min_free_gpu_memory_gib": 2.0}, {"free_gpu_memory_bytes": GIB}, "1.0 GiB of GPU memory are free"),
        ({"min_free_gpu_memory_gib": 2.0}, {}, "GPU memory is free cannot be told"),
    ],
)
def test_a_moment_that_does_not_suit_is_objected_to(
    agreed: dict[str, Any], found: dict[str, Any], objection: str | None
) -> None:
    said = WorkerConsent(**agreed).objection_now(Circumstances(local_time=NOON, **found))
    assert (said is None) if objection is None else (said is not None and objection in said)
