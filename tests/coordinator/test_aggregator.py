import math
from pathlib import Path

import pytest
import torch

from fednet.config import WorkerName
from fednet.coordinator import aggregator
from fednet.coordinator.aggregator import Combined, combine_updates, mapped
from fednet.coordinator.desk import DeliveredUpdate
from fednet.reporting.run_view import MOST_DISTANCES, view_of
from fednet.storage.atomic import write_bytes
from fednet.tensors import bytes_of, pack
from tests.federation import manifest, settings
from tests.worker.fakes import tiny_net


def combined(folder: Path, workers: int) -> tuple[Combined, dict[WorkerName, DeliveredUpdate]]:
    """Aggregate updates of which the last by name points the other way."""
    layout = manifest()
    updates = {}
    for number in range(workers):
        flat = pack(tiny_net().state_dict(), layout)
        values = flat[: layout.parameter_bytes].view(torch.float32)
        values.copy_(1 + 0.1 * torch.randn(len(values), generator=torch.Generator().manual_seed(number)))
        if number == workers - 1:
            values.neg_()
        name = WorkerName(f"client{number:03}")
        path = folder / name
        write_bytes(path, bytes_of(flat))
        updates[name] = DeliveredUpdate(
            worker=name,
            sha256="ab" * 32,
            nbytes=len(flat),
            samples=10,
            train_s=1.0,
            loss=0.5,
            arrived_s=2.0,
            fingerprint="cd" * 32,
            path=path,
        )
    found = combine_updates(
        pack(tiny_net().state_dict(), layout),
        updates,
        manifest=layout,
        settings=settings(workers=workers, quorum=workers, byzantine=1, aggregator="multikrum"),
        round_number=1,
        device=torch.device("cpu"),
    )
    return found, updates


@pytest.mark.parametrize("workers", [MOST_DISTANCES, MOST_DISTANCES + 1])
def test_a_round_has_a_map_in_which_the_attacker_stands_apart(tmp_path: Path, workers: int) -> None:
    found, updates = combined(tmp_path, workers)
    document = mapped(found).document(updates)
    kept = document["aggregation"]
    assert (kept["squared_distances"] is None, "map" in kept) == ((True, True) if workers > 100 else (False, False))
    *honest, attacker = view_of({"round": 1, **document})["map"]
    assert min(math.dist(attacker, each) for each in honest) > 2 * max(math.dist(honest[0], each) for each in honest)


def test_only_who_keeps_the_record_computes_a_map_and_not_of_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = combined(tmp_path, MOST_DISTANCES + 2)
    assert found.map is None
    monkeypatch.setattr(aggregator, "MOST_MAPPED", MOST_DISTANCES + 1)
    assert mapped(found).map is None


def test_the_record_says_how_many_bytes_each_update_was(tmp_path: Path) -> None:
    found, updates = combined(tmp_path, 5)
    assert {each["nbytes"] for each in found.document(updates)["updates"]} == {manifest().total_bytes}
