"""What this machine's processor and memory reach: the rates that a figure is held against."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

_COPIED_BYTES = 2**30
_MULTIPLIED = 8192  # rows and columns of the matrices that give the device's float32 rate


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long `work` takes, with all that it started on the device."""
    _wait_for(device)
    began = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_rate(device: torch.device) -> float:
    """Return bytes/s read and written by a copy within a CUDA device."""
    source = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _COPIED_BYTES / min(seconds(lambda: target.copy_(source), device) for _ in range(10))  # read and written


def multiply_rate(device: torch.device) -> float:
    """Return flops/s of a large float32 matrix product on a CUDA device."""
    matrix = torch.randn(_MULTIPLIED, _MULTIPLIED, device=device)
    with plain_float32():
        return 2 * _MULTIPLIED**3 / min(seconds(lambda: matrix @ matrix, device) for _ in range(5))


def pcie_rate(device: torch.device) -> float:
    """Return bytes/s from pinned memory to a CUDA device."""
    source = torch.empty(_COPIED_BYTES, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(_COPIED_BYTES, dtype=torch.uint8, device=device)
    return _COPIED_BYTES / min(seconds(lambda: target.copy_(source), device) for _ in range(5))


@contextlib.contextmanager
def plain_float32() -> Iterator[None]:
    """Keep the reference in float32 too, whatever is set outside: TF32 would be another limit."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
