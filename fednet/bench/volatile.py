"""Runs cli.py without waiting for any disk: `python -m fednet.bench.volatile ARGUMENTS`; for `bench round` alone.

What durability costs is the difference to the program as it is.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from fednet.storage.store import RunStore

_CLI = Path(__file__).resolve().parents[2] / "cli.py"


def main() -> None:
    """Be cli.py, with every fsync done in no time and none done."""
    os.fsync = _no_sync
    RunStore.synchronous = "OFF"
    sys.argv[0] = str(_CLI)
    runpy.run_path(str(_CLI), run_name="__main__")


def _no_sync(fd: object) -> None:
    """Claim that it is done."""


if __name__ == "__main__":
    main()
