from datetime import UTC, datetime, timedelta, timezone

import pytest

from fednet.reporting.page_text import flat, in_bytes, in_figures, in_percent, in_seconds, moment, shown


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (in_seconds(None), "-"),
        (in_seconds(0.043), "0.04 s"),
        (in_seconds(12.34), "12.3 s"),
        (in_seconds(119.7), "2 min 0 s"),
        (in_bytes(0), "-"),
        (in_bytes(1023), "1,023 bytes"),
        (in_bytes(3 * 2**20 // 2), "1.5 MiB"),
        (in_figures(None), "-"),
        (in_figures(0.12345), "0.123"),
        (in_percent(0.9), "90.0 %"),
        (shown(True), "yes"),
        (shown(()), "none"),
        (shown(["a", 1]), "a, 1"),
        (shown(""), "-"),
        (shown(1e-05), "1e-05"),
    ],
)
def test_figures_are_shown_in_few_letters(found: str, expected: str) -> None:
    assert found == expected


def test_moments_are_shown_in_utc() -> None:
    at = datetime(2026, 11, 26, 13, 5, 7, tzinfo=timezone(timedelta(hours=1)))
    assert {moment(at), moment(at.isoformat()), moment(at.timestamp())} == {"2026-11-26 12:05:07 UTC"}
    assert moment(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01 00:00:00 UTC"


def test_groups_of_settings_are_named_whole() -> None:
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == [("a", 1), ("b.c", 2), ("b.d.e", 3)]
