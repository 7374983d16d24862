"""Where log lines go: to stderr, as text or as one JSON document a line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

LEVELS = ("debug", "info", "warning", "error")


class JsonLines(logging.Formatter):
    """One JSON document a line: `time` (UTC, RFC 3339), `level`, `logger`, `message`, and the line's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: a live view that takes its place lets lines pass above it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        self.stream = sys.stderr
        super().emit(record)


def start_logging(*, level: str | None, form: str, verbose: bool, quiet: bool = False) -> None:
    """Send the program's log to stderr: from `level` on, or as the form, `verbose` and `quiet` suggest.

    As JSON everything is a log line, so that INFO is what a terminal shows without being asked.
    """
    handler = _ToStderr()
    if form == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    usual = "info" if verbose or (form == "json" and not quiet) else "warning"
    logging.basicConfig(handlers=[handler], level=(level or usual).upper())
