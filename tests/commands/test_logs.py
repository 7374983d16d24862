import io
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fednet.commands.logs import JsonLines, start_logging


@contextmanager
def new_process() -> Iterator[logging.Logger]:
    """The root logger without handlers, not those of pytest either."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers.clear()
    try:
        yield logger
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("fednet.test", logging.WARNING, __file__, 1, message, None, None)
    vars(made).update(extra)
    return made


def test_a_line_is_one_json_document_with_its_own_fields() -> None:
    line = JsonLines().format(record("two\nlines", fields={"round": 3}))
    assert "\n" not in line
    document = json.loads(line)
    assert document["message"] == "two\nlines"
    assert (document["level"], document["logger"], document["round"]) == ("warning", "fednet.test", 3)
    assert document["time"].endswith("+00:00")


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("inner")
    except ValueError:
        line = JsonLines().format(record("failed", exc_info=sys.exc_info()))
    assert "inner" in json.loads(line)["traceback"]
    assert "\n" not in line


def test_lines_go_to_what_stderr_is_at_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    live = io.StringIO()
    with new_process():
        start_logging(level=None, form="text", verbose=False)
        monkeypatch.setattr(sys, "stderr", live)  # as a live view does
        logging.getLogger("fednet.test").warning("client3 is slow")
    assert live.getvalue().endswith("WARNING client3 is slow\n")


@pytest.mark.parametrize(
    ("form", "verbose", "quiet", "level"),
    [
        ("text", False, False, logging.WARNING),
        ("text", True, False, logging.INFO),
        ("json", False, False, logging.INFO),
        ("json", False, True, logging.WARNING),
    ],
)
def test_quiet_keeps_json_lines_to_warnings(form: str, verbose: bool, quiet: bool, level: int) -> None:
    with new_process() as root:
        start_logging(level=None, form=form, verbose=verbose, quiet=quiet)
        assert root.level == level
