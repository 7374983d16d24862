"""Reports that `coordinator start` leaves in its run's folder. Whatever is wrong with one, the run does not notice."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fednet.commands.processes import CLI
from fednet.commands.report import write_report
from fednet.errors import RunParked
from fednet.reporting.reporter import NullReporter

log = logging.getLogger("fednet.report")

_NICENESS = 10  # training and aggregating come first
_STOP_WITHIN_S = 5.0


@contextlib.contextmanager
def report_at_end(folder: Path, *, certs: Path) -> Iterator[None]:
    """Leave report.html in the run's folder when the run has finished or parked."""
    try:
        yield
    except RunParked:
        leave_report(folder, certs=certs)
        raise
    leave_report(folder, certs=certs)


def leave_report(folder: Path, *, certs: Path) -> None:
    """Write a run's report; one that cannot be written is a line in the log, for the run is done and safe."""
    try:
        write_report(folder, certs=certs)
    except Exception as exc:  # a disk that is full, a record that another program spoilt, even a bug of ours
        log.warning("%s: no report was written (%s: %s)", folder, type(exc).__name__, exc)
        log.debug("why", exc_info=exc)


class ReportEachRound(NullReporter):
    """Has the report written after each round by a process of its own; where rounds are faster, of the last one."""

    def __init__(self, folder: Path, *, certs: Path) -> None:
        self._command = [sys.executable, *CLI, "runs", "report", str(folder), "--certs", str(certs)]
        self._folder = folder
        self._is_due, self._is_over = threading.Event(), False
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._work, name="reports", daemon=True)
        self._thread.start()

    def round_committed(self, document: dict[str, Any]) -> None:
        """Ask for a report; never waits for one."""
        self._is_due.set()

    def close(self) -> None:
        """Stop what is being written: the file stays that of an earlier round."""
        self._is_over = True
        self._is_due.set()
        if (process := self._process) is not None:
            process.terminate()
        self._thread.join(_STOP_WITHIN_S)

    def _work(self) -> None:
        while self._is_due.wait() and not self._is_over:
            self._is_due.clear()
            try:
                said = self._written()
            except OSError as exc:  # no room for another process
                said = str(exc)
            if said and not self._is_over:
                log.warning("%s: no report of this round was written (%s)", self._folder, said)

    def _written(self) -> str:
        """Run the command; return what it says in the end where it fails."""
        with subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
            self._process = process
            if self._is_over:
                process.terminate()
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
            _, errors = process.communicate()
        return "" if process.returncode == 0 else (errors.strip().splitlines() or ["it said nothing"])[-1]
