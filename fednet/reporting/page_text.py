"""Figures, moments and settings as a page shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

NOTHING = "-"
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def in_figures(value: float | None) -> str:
    """Return a metric with three places."""
    return NOTHING if value is None else f"{value:.3f}"


def in_percent(value: float) -> str:
    """Return a share between 0 and 1 as `93.4 %`."""
    return f"{100 * value:.1f} %"


def in_seconds(value: float | None) -> str:
    """Return a time as `0.04 s`, `12.3 s` or `2 min 5 s`."""
    if value is None:
        return NOTHING
    if value < 100:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes:,} min {seconds} s"


def in_bytes(value: int | None) -> str:
    """Return a size as `1.4 MiB`; nothing where it is not known."""
    if not value:
        return NOTHING
    size, unit = float(value), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{value:,} bytes" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def in_words(name: str) -> str:
    """Return a class's or setting's name without underscores."""
    return name.replace("_", " ")


def moment(at: datetime | str | float) -> str:
    """Return a moment as `2026-11-26 15:20:05 UTC`; given as ISO text, seconds since 1970 or a datetime."""
    if isinstance(at, str):
        at = datetime.fromisoformat(at)
    elif isinstance(at, int | float):
        at = datetime.fromtimestamp(at, UTC)
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return every setting by its name, those of a group as `training.batch_size`."""
    rows: list[tuple[str, Any]] = []
    for name, value in settings.items():
        rows += flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return rows


def shown(value: Any) -> str:
    """Return a setting's value in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "none"
    return NOTHING if value is None or value == "" else str(value)
