"""What machine a figure comes from."""

from __future__ import annotations

import os
import platform
import ssl
from pathlib import Path


def machine() -> dict[str, str | int]:
    """Return processor, cores, memory and the versions that decide speed."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
