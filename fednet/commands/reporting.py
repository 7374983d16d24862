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
from fednet.commands.report import REPORT, write_report
from fednet.errors import BadInput, FednetError
from fednet.reporting.page_text import in_bytes
from fednet.reporting.reporter import NullReporter
from fednet.storage.atomic import sweep_temporary
from fednet.storage.store import has_run, is_held

log = logging.getLogger("fednet.report")

_NICENESS = 10  # training and aggregating come first
_STOP_WITHIN_S = 5.0
_MOST_CHECKED_BYTES = 2 * 2**30  # read in seconds: whoever waits for the run's end waits for the check too


@contextlib.contextmanager
def report_at_end(folder: Path, *, certs: Path) -> Iterator[None]:
    """Leave report.html in the run's folder when the run has finished, parked or failed; none where it never began."""
    try:
        yield
    except BadInput:
        raise
    except FednetError:
        leave_report(folder, certs=certs, is_finished=False)
        raise
    leave_report(folder, certs=certs, is_finished=True)


def leave_report(folder: Path, *, certs: Path, is_finished: bool) -> None:
    """Write the report of a run that nobody serves now, and where little is to be read, check a finished one's record.

    One that cannot be written is a line in the log: the run's end does not wait for it, and is as safe without.
    """
    try:
        if not has_run(folder) or is_held(folder):
            return
        sweep_temporary(folder, REPORT)  # of a report that was stopped
        write_report(folder, certs=certs, unchecked=_why_unchecked(folder, is_finished=is_finished))
    except Exception as exc:  # a disk that is full, a record that another program spoilt, even a bug of ours
        log.warning("%s: no report was written (%s: %s)", folder, type(exc).__name__, exc)
        log.debug("why", exc_info=exc)


def _why_unchecked(folder: Path, *, is_finished: bool) -> str:
    """Return why the record is not checked at a run's end; empty where it is."""
    if not is_finished:
        return "a run that stops waits for no check: `runs verify` checks its record"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size <= _MOST_CHECKED_BYTES:
        return ""
    return (
        f"a run's end checks at most {in_bytes(_MOST_CHECKED_BYTES)}, this one has {in_bytes(size)}: see `runs verify`"
    )


class ReportEachRound(NullReporter):
    """Has the report written after each round by a process of its own; where rounds are faster, of the last one."""

    def __init__(self, folder: Path, *, certs: Path) -> None:
        self._command = [sys.executable, *CLI, "runs", "report", str(folder), "--certs", str(certs)]
        self._command += ["--no-check", "--with-parent"]  # a check reads all that there is: the run's end has one
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
        with subprocess.Popen(  # noqa: S603 - our own program with our own arguments
            self._command,
            stdin=subprocess.PIPE,  # closed with this process, however it ends
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C parks the run, and `close` ends this
        ) as process:
            self._process = process
            if self._is_over:
                process.terminate()
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
            assert process.stderr is not None
            errors = process.stderr.read()
            process.wait()
        return "" if process.returncode == 0 else (errors.strip().splitlines() or ["it said nothing"])[-1]
