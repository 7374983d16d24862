import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from fednet.bench.krum import KrumBench, distances
from fednet.bench.krum_spool import bench_from_spool, spooled_updates
from fednet.errors import BadInput
from fednet.storage.spool import SpoolRows

CPU = torch.device("cpu")


def quiet(text: str) -> None:
    pass


def test_from_the_spool_the_reference_is_a_plain_read_and_nothing_stays(tmp_path: Path) -> None:
    settings = KrumBench(workers=(5, 6), dim=9000, device=CPU, repeats=2)
    document = bench_from_spool(settings, tmp_path, notice=quiet)
    assert document["settings"]["source"] == "spool"
    for run in document["runs"]:
        assert run["ratio"] == run["seconds"]["distances"] / run["seconds"]["plain"]
        assert run["rates"]["plain"] == run["input_bytes"] / run["seconds"]["plain"]
        assert run["peak_bytes"]["whole"] >= 0
    assert list(tmp_path.iterdir()) == []


def test_spooled_updates_differ_from_each_other_and_have_a_common_part(tmp_path: Path) -> None:
    paths = spooled_updates(4, 2**20 + 5, tmp_path)
    rows = SpoolRows(paths, width=2**20 + 5)
    found = distances(rows, CPU)
    rows.close()
    between = found[~torch.eye(4, dtype=torch.bool)]
    assert torch.allclose(between, between.mean().expand(12), rtol=0.01)


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 9, 1))
    with pytest.raises(BadInput, match="TMPDIR"):
        bench_from_spool(KrumBench(workers=(5,), dim=9000, device=CPU), tmp_path, notice=quiet)
    assert list(tmp_path.iterdir()) == []
