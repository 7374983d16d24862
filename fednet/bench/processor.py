"""Processor time of other processes of this machine, as long as they live."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOOKS_EVERY_S = 0.1


def processor_s(pid: int) -> float | None:
    """Return the seconds that all threads of a process have computed, None where there is no such process (Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S  # utime, stime: proc(5)


class ProcessorWatch:
    """Looks at processes while a `with` block runs; `seconds` is what each has computed when it was last seen."""

    def __init__(self, pids: dict[str, Callable[[], int | None]]) -> None:
        """`pids`: by name what returns a process's id, None as long as it is not known."""
        self.seconds: dict[str, float] = {}
        self._pids = pids
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._look()
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.wait(_LOOKS_EVERY_S):
            self._look()

    def _look(self) -> None:
        for name, pid_of in self._pids.items():
            pid = pid_of()
            found = None if pid is None else processor_s(pid)
            if found is not None:
                self.seconds[name] = found
