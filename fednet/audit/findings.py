"""What a check of a run found: where, which field, what stands there and what should. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_SHOWN = 80  # characters of a value: one finding is one line
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it was signed; it names the round or the file, and the field where one can be told."""

    round: int | None = None
    file: str | None = None  # relative to the run's folder
    field: str | None = None  # None: the round or the file as a whole
    found: str
    expected: str = ""

    def __str__(self) -> str:
        """Return it in a line: `round 2: test.accuracy: found 0.4, expected 0.5`."""
        where = ", ".join(
            [
                *([] if self.round is None else [f"round {self.round}"]),
                *([] if self.file is None else [f"file {self.file}"]),
            ]
        )
        what = f"found {self.found}, expected {self.expected}" if self.expected else self.found
        return _DIGEST.sub(r"\1...", ": ".join(part for part in (where, self.field, what) if part))


class _Nothing:
    """Stands where one of two documents has no such field."""


_NOTHING = _Nothing()


def plain(value: object) -> str:
    """Return any value in a few printable ASCII characters: what was tampered with may hold anything."""
    if isinstance(value, _Nothing) or value is None:
        return "nothing"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = json.dumps(value, default=lambda odd: type(odd).__name__)
    text = text[1:-1] if isinstance(value, str) else text
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def parsed(text: object) -> Any:
    """Return the JSON document in a text or bytes; None where there is none, or bytes in it that are no UTF-8."""
    try:
        if isinstance(text, bytes):
            return json.loads(text.decode())
        return json.loads(text) if isinstance(text, str) and text.encode() else None
    except (ValueError, RecursionError):
        return None


def mapping_in(text: object) -> dict[str, Any] | None:
    """Return the JSON object in a text or bytes; None where there is none."""
    document = parsed(text)
    return document if isinstance(document, dict) else None


def differences(found: Any, expected: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (field, found, expected) for every value in which two JSON documents differ: `test.accuracy`, 0.4, 0.5.

    In lists of what concerns a worker each, fields are named by the worker: `updates.client1.weight`.
    """
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name in sorted(found.keys() | expected.keys()):
            inner = f"{path}.{plain(name)}" if path else plain(name)
            yield from differences(found.get(name, _NOTHING), expected.get(name, _NOTHING), inner)
    elif (ours := _by_worker(found)) is not None and (theirs := _by_worker(expected)) is not None:
        yield from differences(ours, theirs, path)
    elif _is_list(found) and _is_list(expected) and len(found) == len(expected):
        for index, (own, other) in enumerate(zip(found, expected, strict=True)):
            yield from differences(own, other, f"{path}[{index}]")
    elif not _is_same(found, expected):
        yield path, plain(found), plain(expected)


def field_findings(
    found: Any, expected: Any, *, round_number: int | None = None, file: str | None = None, within: str = ""
) -> list[Finding]:
    """Return a finding for each difference of two documents; `within` goes before the field's name."""
    return [
        Finding(round=round_number, file=file, field=f"{within}{path}", found=value, expected=wanted)
        for path, value, wanted in differences(found, expected)
    ]


def _is_same(found: Any, expected: Any) -> bool:
    """Whether two values are written alike: 1 and 1.0 and true are not, NaN and NaN are."""
    return type(found) is type(expected) and json.dumps(found, default=repr) == json.dumps(expected, default=repr)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _by_worker(value: Any) -> dict[str, Any] | None:
    if not _is_list(value) or not value or not all(isinstance(each, Mapping) and "worker" in each for each in value):
        return None
    found = {str(each["worker"]): each for each in value}
    return found if len(found) == len(value) else None
