"""What `split.json` says of a folder: which side of a split it is, and where the split's test set comes from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from data.splitting import TEST

_LEVELS = 3  # a side is one or two folders below its split.json
_PHANTOMS = re.compile(r"\d+ phantoms of \d+ pixels")  # of these, both parts are drawn alike
_PUBLISHED = (
    "the public data set's own Testing folder, which is drawn differently from Training: compare methods on "
    "`split --test-from resplit`"
)


def doubts_about_test(folder: Path) -> list[str]:
    """Return why figures on `folder` may say something else than how good a model is, a line each.

    Known from the `split.json` above it; a folder without one (moved away, or never split) by its name only. Never
    raises for what is written there.
    """
    place = folder.resolve()
    if place.name == "Testing" and (place.parent / "Training").is_dir():
        return [f"{folder} is {_PUBLISHED}, which also leaves out the twins that the two parts share"]
    for above in list(place.parents)[:_LEVELS]:
        side = place.relative_to(above).as_posix()
        if (record := _record(above / "split.json")) is not None and side in record.sides:
            return _doubts(folder, side, record)
    return []


@dataclass(frozen=True)
class _Record:
    """The parts of a split's record that are asked for."""

    sides: frozenset[str]
    is_published: bool


def _doubts(folder: Path, side: str, record: _Record) -> list[str]:
    if side != TEST:
        return [f"{folder} is {side} of its split, not the test set: models were trained on it or chosen by it"]
    return [f"{folder} is {_PUBLISHED}"] if record.is_published else []


def _record(path: Path) -> _Record | None:
    try:
        document = json.loads(path.read_bytes())
        arguments = document["arguments"]
        is_published = arguments["test_from"] == "published" and not _PHANTOMS.fullmatch(arguments["dataset"])
        return _Record(frozenset(document["sites"]), is_published)
    except (OSError, ValueError, LookupError, TypeError):
        return None
