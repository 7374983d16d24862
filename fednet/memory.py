"""What this machine's memory holds, as Linux tells it in /proc; None where it does not."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int | None:
    """Return how much memory this machine can still give without swapping (MemAvailable)."""
    return _meminfo("MemAvailable")


def total_bytes() -> int | None:
    """Return how much memory this machine has (MemTotal)."""
    return _meminfo("MemTotal")


def resident_bytes() -> int | None:
    """Return how much memory this process holds."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return None


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
