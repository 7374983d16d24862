"""Hours of the week in which a hospital trains: `20:00-06:00`, `Mon-Fri 20:00-06:00`, `Sat,Sun 00:00-24:00`. Pure.

Only the wall clock and the day of the week are looked at, never a difference of times: a change to or from daylight
saving time makes a window an hour longer or shorter, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALL_DAYS = frozenset(range(7))
_DAY_MINUTES = 24 * 60
_PATTERN = re.compile(r"(?:(?P<days>[A-Za-z,-]+) +)?(?P<begin>\d{2}:\d{2})-(?P<end>\d{2}:\d{2})")
EXPECTED = "hours such as 20:00-06:00, Mon-Fri 20:00-06:00 or Sat,Sun 00:00-24:00"


@dataclass(frozen=True)
class Window:
    """Some hours of some days. One that ends before it begins lasts into the next day."""

    text: str
    days: frozenset[int]  # on which it begins; 0: Monday
    begin: int  # minutes after midnight, included
    end: int  # minutes after midnight, not included

    def covers(self, moment: datetime) -> bool:
        """Whether this moment of the hospital's own clock lies in it."""
        day, minute = moment.weekday(), 60 * moment.hour + moment.minute
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        began_yesterday = (day - 1) % 7 in self.days and minute < self.end
        return began_yesterday or (day in self.days and minute >= self.begin)


def window_from(text: str) -> Window:
    """Return the window that `text` describes; raises `ValueError` for any other text."""
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    begin, end = _minutes(found["begin"]), _minutes(found["end"])
    if begin in (end, _DAY_MINUTES):  # an empty window, or is it a whole day? 00:00-24:00 says so
        raise ValueError(text)
    return Window(text.strip(), _days(found["days"]), begin, end)


def are_within(hours: Sequence[Window], moment: datetime) -> bool:
    """Whether any of the windows covers this moment; without any, all hours are meant."""
    return not hours or any(window.covers(moment) for window in hours)


def _minutes(text: str) -> int:
    hour, minute = int(text[:2]), int(text[3:])
    total = 60 * hour + minute
    if minute > 59 or total > _DAY_MINUTES:
        raise ValueError(text)
    return total


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return _ALL_DAYS
    return frozenset().union(*(_days_from(*part.split("-")) for part in text.lower().split(",")))


def _days_from(first: str, last: str | None = None, *more: str) -> frozenset[int]:
    if more:
        raise ValueError(first)
    begin = _DAYS.index(first)
    count = (_DAYS.index(last) - begin) % 7 if last is not None else 0
    return frozenset((begin + step) % 7 for step in range(count + 1))
