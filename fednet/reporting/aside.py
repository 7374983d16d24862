"""Tells a reporter in a thread of its own, so that a terminal that stands still, or breaks, holds up nobody."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from fednet.protocol.messages import RoundClosed
from fednet.reporting.reporter import Progressing, Transfer, WorkerView

log = logging.getLogger(__name__)

_MOST_WAITING = 1000  # lines; of a terminal that stands still for longer the oldest are lost
_PATIENCE_S = 5.0  # with a terminal that stands still at the end


class Closing(Protocol):
    """A reporter of a run or of a worker's part in it; how it is called is known where it is made."""

    def close(self) -> None:
        """Show nothing more."""


class Aside:
    """A reporter for another one, whose methods are called in a thread, one after the other.

    What is called once a second is told as it was last. A reporter that fails is closed, with a line in the log, and
    told nothing more: a full disk or a closed pipe behind the terminal is no reason for a run to end.
    """

    def __init__(self, reporter: Closing) -> None:
        self._reporter: Any = reporter
        self._lines: deque[Callable[[], None]] = deque(maxlen=_MOST_WAITING)
        self._states: dict[str, Callable[[], None]] = {}
        self._changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._tell, name="reporter", daemon=True)
        self._thread.start()

    def notice(self, text: str) -> None:
        """Show one line that stays."""
        self._line(partial(self._reporter.notice, text))

    def status(self, text: str, views: list[WorkerView]) -> None:
        """Show what the run waits for, and every worker as it is now."""
        self._state("status", partial(self._reporter.status, text, [copy.copy(view) for view in views]))

    def round_committed(self, document: dict[str, Any]) -> None:
        """Show a finished round."""
        self._line(partial(self._reporter.round_committed, document))

    def training(self, round_number: int, progress: Progressing) -> None:
        """Show how far local training is."""
        self._state("training", partial(self._reporter.training, round_number, progress))

    def transferring(self, round_number: int, transfer: Transfer) -> None:
        """Show how far a transfer is."""
        self._state("transferring", partial(self._reporter.transferring, round_number, transfer))

    def round_closed(self, closed: RoundClosed) -> None:
        """Show what became of this worker's update."""
        self._line(partial(self._reporter.round_closed, closed))

    def close(self) -> None:
        """Show what is left and nothing more; waits for seconds at most."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join(_PATIENCE_S)

    def _line(self, call: Callable[[], None]) -> None:
        with self._changed:
            self._lines.append(call)
            self._changed.notify()

    def _state(self, what: str, call: Callable[[], None]) -> None:
        with self._changed:
            self._states[what] = call
            self._changed.notify()

    def _tell(self) -> None:
        try:
            while (call := self._next()) is not None:
                call()
        except (Exception, SystemExit) as exc:  # rich leaves by the latter where a pipe is closed
            log.warning("nothing is shown any more: %s", str(exc) or type(exc).__name__)
        with contextlib.suppress(Exception, SystemExit):
            self._reporter.close()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._states or self._is_over)
            if self._lines:
                return self._lines.popleft()
            return self._states.pop(next(iter(self._states))) if self._states else None
