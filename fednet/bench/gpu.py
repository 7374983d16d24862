"""How busy a GPU is while something runs, as `nvidia-smi` sees it."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Callable

import torch

_SAMPLE_MS = 100


def utilisation(work: Callable[[], object], device: torch.device) -> float | None:
    """Run `work`, and return the mean share of time, 0 to 1, in which the GPU computed anything meanwhile.

    None where nvidia-smi is missing or does not tell, as on a part of a GPU (MIG), or was not asked often enough.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        work()
        return None
    gpu = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    query = ("--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--loop-ms={_SAMPLE_MS}")
    with subprocess.Popen(  # noqa: S603 - NVIDIA's own program, with our own arguments
        [program, f"--id={gpu}", *query], stdout=subprocess.PIPE, text=True
    ) as watcher:
        try:
            work()
            torch.cuda.synchronize(device)
        finally:
            watcher.terminate()
        told, _ = watcher.communicate()
    found = [int(line) for line in told.split("\n")[:-1] if line.strip().isdigit()]
    return statistics.mean(found) / 100 if found else None
