import json
import logging
import sys

from fednet.commands.logs import JsonLines


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
