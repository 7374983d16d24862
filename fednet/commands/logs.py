"""Where log lines go: to stderr, warnings by default, everything with --verbose."""

from __future__ import annotations

import logging
import sys


def start_logging(*, verbose: bool) -> None:
    """Send the program's log to stderr."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
