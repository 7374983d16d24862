from datetime import datetime, timedelta, timezone

import pytest

from fednet.worker.hours import are_within, window_from

MONDAY, TUESDAY, FRIDAY, SATURDAY, SUNDAY = (datetime(2026, 6, day) for day in (1, 2, 5, 6, 7))


def at(day: datetime, text: str) -> datetime:
    return day.replace(hour=int(text[:2]), minute=int(text[3:]))


@pytest.mark.parametrize(
    ("text", "day", "hour", "is_within"),
    [
        ("08:00-17:00", MONDAY, "08:00", True),
        ("08:00-17:00", MONDAY, "07:59", False),
        ("08:00-17:00", MONDAY, "16:59", True),
        ("08:00-17:00", MONDAY, "17:00", False),
        ("20:00-06:00", MONDAY, "19:59", False),
        ("20:00-06:00", MONDAY, "20:00", True),
        ("20:00-06:00", MONDAY, "23:59", True),
        ("20:00-06:00", TUESDAY, "00:00", True),
        ("20:00-06:00", TUESDAY, "05:59", True),
        ("20:00-06:00", TUESDAY, "06:00", False),
        ("20:00-00:00", MONDAY, "23:59", True),
        ("20:00-00:00", TUESDAY, "00:00", False),
        ("00:00-24:00", MONDAY, "00:00", True),
        ("00:00-24:00", MONDAY, "23:59", True),
        ("Mon-Fri 20:00-06:00", FRIDAY, "20:00", True),
        ("Mon-Fri 20:00-06:00", SATURDAY, "05:59", True),
        ("Mon-Fri 20:00-06:00", SATURDAY, "20:00", False),
        ("Mon-Fri 20:00-06:00", SUNDAY, "05:59", False),
        ("Mon-Fri 20:00-06:00", MONDAY, "05:59", False),
        ("Fri-Mon 10:00-11:00", SUNDAY, "10:30", True),
        ("Fri-Mon 10:00-11:00", TUESDAY, "10:30", False),
        ("Sat,Sun 00:00-24:00", SUNDAY, "12:00", True),
        ("Sat,Sun 00:00-24:00", FRIDAY, "12:00", False),
        ("sun 22:00-02:00", MONDAY, "01:59", True),
        ("mon,wed-thu 10:00-11:00", MONDAY, "10:00", True),
    ],
)
def test_a_window_covers_its_hours_of_its_days(text: str, day: datetime, hour: str, is_within: bool) -> None:
    assert window_from(text).covers(at(day, hour)) is is_within


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20:00",
        "20-06",
        "8:00-17:00",
        "08:00-08:00",
        "24:00-06:00",
        "08:00-24:01",
        "08:60-09:00",
        "25:00-26:00",
        "Mo 08:00-09:00",
        "Mon-Tue-Wed 08:00-09:00",
        "Mon, 08:00-09:00",
        "08:00-09:00 Mon",
        "Mon - Fri 08:00-09:00",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        window_from(text)


def test_any_of_several_windows_is_enough_and_none_means_always() -> None:
    windows = [window_from("08:00-09:00"), window_from("20:00-06:00")]
    assert [are_within(windows, at(MONDAY, hour)) for hour in ("08:30", "12:00", "05:00")] == [True, False, True]
    assert are_within([], at(MONDAY, "12:00"))


def test_only_the_wall_clock_counts_whatever_the_zone() -> None:
    """The same hour before and after the clocks change, though 23 hours lie between."""
    window = window_from("02:00-04:00")
    winter, summer = (timezone(timedelta(hours=hours)) for hours in (1, 2))
    assert window.covers(datetime(2026, 3, 28, 3, 30, tzinfo=winter))
    assert window.covers(datetime(2026, 3, 29, 3, 30, tzinfo=summer))
