"""Reads `worker.toml`, strictly: a key it does not know, a type or a number out of range is an error that names it."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fednet.errors import BadInput
from fednet.worker.agreement import Agreement, MachineBounds, PrivacyBounds
from fednet.worker.consent import COMPRESSIONS, WorkerConsent
from fednet.worker.hours import EXPECTED, Window, window_from

Read = Callable[[str, Any], Any]
"""(where it stands, what stands there) -> its value; raises `BadInput`."""


def read_agreement(path: Path) -> Agreement:
    """Return what the file agrees to; raises `BadInput` naming file, key, what was found and what is expected."""
    found = {table: _values(path, table, content) for table, content in _tables(path).items()}
    coordinator, data = found.get("coordinator", {}), found.get("data", {})
    privacy, machine = found.get("privacy", {}), found.get("machine", {})
    training = dict(found.get("training", {}))
    if "learning_rate" in training:
        training["min_learning_rate"], training["max_learning_rate"] = training.pop("learning_rate")
    threads = {name: machine.pop(name) for name in ("max_threads", "max_gpu_memory_gib") if name in machine}
    folder = data.get("folder")
    agreement = Agreement(
        path=path,
        authorities=coordinator.get("authority", frozenset()),
        coordinators=coordinator.get("certificate", frozenset()),
        data=None if folder is None else path.parent / folder,
        may_share_evaluation=data.get("share_evaluation", True),
        consent=WorkerConsent(**training, **machine, **found.get("time", {})),
        machine=MachineBounds(**threads),
    )
    is_required = privacy.pop("dp", "any") == "required"
    return replace(agreement, privacy=PrivacyBounds(is_required=is_required, **privacy))


def _tables(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as exc:
        raise BadInput(f"consent file {path}", found=exc.strerror or str(exc)) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        todo = "`cli.py worker consent --template` prints one to begin with"
        raise BadInput(f"consent file {path}", found=str(exc), expected="TOML (toml.io)", todo=todo) from exc


def _values(path: Path, table: str, content: Any) -> dict[str, Any]:
    if table not in _TABLES:
        raise BadInput(f"consent file {path}", found=f"[{table}]", expected=f"of {', '.join(_TABLES)} only")
    if not isinstance(content, dict):
        raise BadInput(f"consent file {path}", found=f"{table} = {content!r}", expected=f"a table [{table}]")
    keys = _TABLES[table]
    for key in content:
        if key not in keys:
            raise BadInput(f"consent file {path}: [{table}]", found=key, expected=f"of {', '.join(keys)} only")
    return {key: keys[key](f"consent file {path}: [{table}] {key}", value) for key, value in content.items()}


def _wrong(where: str, value: Any, expected: str) -> BadInput:
    return BadInput(where, found=_shown(value), expected=expected)


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _integer(low: int, high: int) -> Read:
    def read(where: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(where, value, f"a whole number from {low} to {high}")
        return value

    return read


def _number(low: float, high: float) -> Read:
    def read(where: str, value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low < value <= high:
            raise _wrong(where, value, f"a number of more than {low:g} and at most {high:g}")
        return float(value)

    return read


def _choice(*choices: str) -> Read:
    def read(where: str, value: Any) -> str:
        if value not in choices:
            raise _wrong(where, value, " or ".join(f'"{choice}"' for choice in choices))
        return str(value)

    return read


def _yes_or_no(where: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong(where, value, "true or false")
    return value


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(where, value, "a text")
    return value


def _texts(where: str, value: Any) -> tuple[str, ...]:
    """Return one text, or a list of some: an empty list would agree to nothing, or to everything?"""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not listed:
        raise _wrong(where, value, "a text, or a list of at least one")
    return tuple(_text(where, each) for each in listed)


def _fingerprints(where: str, value: Any) -> frozenset[str]:
    found = {each: each.lower().removeprefix("sha256:").replace(":", "") for each in _texts(where, value)}
    for written, digits in found.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digits):
            raise _wrong(where, written, "a SHA-256, 64 hexadecimal digits, as `cli.py certs show FILE` prints it")
    return frozenset(found.values())


def _rates(where: str, value: Any) -> tuple[float, float]:
    expected = "the least and the greatest, such as [0.0001, 0.1], of at least 0 and at most 10"
    if not isinstance(value, list) or len(value) != 2 or any(type(each) not in (int, float) for each in value):
        raise _wrong(where, value, expected)
    if not 0 <= value[0] <= value[1] <= 10 or value[1] == 0:  # NaN is in no order
        raise _wrong(where, value, expected)
    return float(value[0]), float(value[1])


def _hours(where: str, value: Any) -> tuple[Window, ...]:
    windows = []
    for text in _texts(where, value):
        try:
            windows.append(window_from(text))
        except ValueError as exc:
            raise _wrong(where, text, EXPECTED) from exc
    return tuple(windows)


_TABLES: Mapping[str, Mapping[str, Read]] = {
    "coordinator": {"authority": _fingerprints, "certificate": _fingerprints},
    "training": {
        "models": _texts,
        "max_rounds": _integer(1, 100_000),
        "max_local_epochs": _number(0, 1000),
        "learning_rate": _rates,
        "max_batch_size": _integer(1, 4096),
        "compression": _choice(*COMPRESSIONS),
    },
    "data": {"folder": _text, "share_evaluation": _yes_or_no},
    "privacy": {"dp": _choice("any", "required"), "max_epsilon": _number(0, 1000), "max_delta": _number(0, 0.1)},
    "machine": {
        "max_threads": _integer(1, 4096),
        "max_gpu_memory_gib": _number(0, 10_000),
        "min_free_gpu_memory_gib": _number(0, 10_000),
        "max_memory_share": _number(0, 1),
        "min_free_memory_gib": _number(0, 100_000),
    },
    "time": {"hours": _hours},
}
