"""How much memory a piece of work takes beyond what was there when it began."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch

from fednet import memory
from fednet.transport.capacity import give_back_memory

_SAMPLE_S = 0.001  # of the resident peak: a short one may fall between
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """Return how much memory this machine can still give."""
    return memory.available_bytes() or _PAGE_BYTES * os.sysconf("SC_PHYS_PAGES")


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Run `work` and return its peak beyond the start: resident memory, or what CUDA's allocator gave out."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    return _resident_peak(work)


class Watch:
    """Looks at this process's memory while a `with` block runs; `peak_bytes` is its peak beyond the start."""

    def __init__(self, look: Callable[[], int] | None = None) -> None:
        """`look` returns the bytes to watch; resident memory without it. `peak_bytes` may be set to 0 at any time."""
        self.peak_bytes = 0
        self._bytes = look or _resident_bytes
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        give_back_memory()
        self._before = self._bytes()
        self._watcher.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._watcher.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            self._look()

    def _look(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._bytes() - self._before)


def _resident_peak(work: Callable[[], object]) -> int:
    with Watch() as watch:
        result = work()  # kept until the last look
    del result
    return watch.peak_bytes


def _resident_bytes() -> int:
    return memory.resident_bytes() or 0


def anonymous_bytes() -> int:
    """Return this process's resident memory that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))
