"""Krum on updates that stay on disk: distances and whole Multi-Krum beside a plain read of the same files."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from fednet.bench.krum import KrumBench, Measured, distances, document, multikrum, peak_of, summary
from fednet.bench.rates import pcie_rate, seconds
from fednet.errors import BadInput
from fednet.storage.spool import SpoolFile, SpoolRows

_DISK_SLACK = 1.05  # file systems keep books too
_CHUNK_COLUMNS = 2**20  # written to the spool at a time
_READ_BYTES = 2**22  # of a plain read

MEANING = {
    "ours": "s: all distances, the updates read from their spool files by column blocks",
    "reference": "s: the same files read plainly, one after another, into one buffer",
    "ratio": "ours / reference, of the medians",
    "whole": "s: distances, Multi-Krum's plan and the weighted sum: two passes over the files",
    "rates": "bytes/s of the files' size: plain read, distances, whole (over both of its passes)",
    "peak_bytes": "most resident memory above the start during the whole",
    "cache": "the files' pages are dropped from the page cache before each measured pass (as far as the system obeys)",
}


def bench_from_spool(bench: KrumBench, folder: Path, *, notice: Callable[[str], None]) -> Measured:
    """Measure with the updates on disk under `folder`; raises `BadInput` where they would not fit there."""
    _check_disk(max(bench.workers), bench, folder)
    runs = []
    for count in bench.workers:
        notice(f"n = {count}: writing {4 * count * bench.dim / 1e9:.1f} GB to {folder}, then {bench.repeats} repeats")
        with tempfile.TemporaryDirectory(prefix="fednet-bench-", dir=folder) as name:
            runs.append(_from_spool(spooled_updates(count, bench.dim, Path(name)), bench))
    return document(bench, runs, source="spool", meaning=MEANING)


def _from_spool(paths: list[Path], bench: KrumBench) -> Measured:
    count, device, total = len(paths), bench.device, 4 * len(paths) * bench.dim
    rows = SpoolRows(paths, width=bench.dim)
    with contextlib.closing(rows):
        works: dict[str, Callable[[], object]] = {
            "plain": lambda: _read_plainly(paths),
            "distances": lambda: distances(rows, device),
            "whole": lambda: multikrum(rows, device),
        }
        peak = peak_of(works["whole"], rows, device, resident=True)
        samples: dict[str, list[float]] = {key: [] for key in works}
        for _ in range(bench.repeats):
            for key, work in works.items():
                _drop_from_cache(paths)
                samples[key].append(seconds(work, device))
    passes = {"plain": 1, "distances": 1, "whole": 2}
    rates = {key: passes[key] * total / statistics.median(samples[key]) for key in samples}
    if device.type == "cuda":
        rates["pcie"] = pcie_rate(device)
    return summary(count, samples, ours="distances", reference="plain") | {
        "input_bytes": total,
        "rates": rates,
        "peak_bytes": {"whole": peak},
        "peak_share": {"whole": peak / total},
    }


def spooled_updates(count: int, dim: int, folder: Path) -> list[Path]:
    """Write such updates to spool files, a chunk at a time, and return their paths."""
    paths = [folder / f"{number}.update" for number in range(count)]
    for number, path in enumerate(paths):
        file = SpoolFile(path, 4 * dim)
        for start in range(0, dim, _CHUNK_COLUMNS):
            length = min(_CHUNK_COLUMNS, dim - start)
            common = torch.empty(length).normal_(generator=torch.Generator().manual_seed(start))
            noise = torch.empty(length).normal_(generator=torch.Generator().manual_seed(1 + start + number * dim))
            file.write(4 * start, noise.mul_(0.5).add_(common).mul_(1e-3).numpy().data.cast("B"))
        file.sync()
        file.close()
    return paths


def _read_plainly(paths: list[Path]) -> None:
    buffer = memoryview(bytearray(_READ_BYTES))
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def _drop_from_cache(paths: list[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _check_disk(count: int, bench: KrumBench, folder: Path) -> None:
    free, needed = shutil.disk_usage(folder).free, int(_DISK_SLACK * 4 * count * bench.dim)
    if needed > free:
        raise BadInput(
            f"{count} spooled updates of {bench.dim:,} numbers",
            found=f"{free / 2**30:.1f} GiB free in {folder}",
            expected=f"{needed / 2**30:.1f} GiB",
            todo="set TMPDIR to a folder with more room, or measure fewer --workers or a smaller --dim",
        )
