import pytest

from fednet.reporting.terminal import duration, megabytes, sparkline


def test_a_sparkline_goes_from_the_lowest_to_the_highest_of_the_last_values() -> None:
    assert sparkline([0.9, 0.0, 0.5, 1.0], width=3) == "▁▅█"
    assert sparkline([0.0, None, 1.0], width=9) == "▁ █"
    assert sparkline([0.0, 1.0], width=9, ascii_only=True) == "_@"


def test_a_sparkline_of_one_height_stands_in_the_middle_and_of_nothing_is_nothing() -> None:
    assert sparkline([0.5, 0.5], width=9) == "▅▅"
    assert sparkline([None], width=9) == sparkline([], width=9) == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89.4, "89 s"), (90.0, "2 min"), (5340.0, "89 min"), (11_100.0, "3 h 05 min")]
)
def test_a_duration_has_the_unit_that_a_person_would_choose(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_bytes_are_told_in_megabytes() -> None:
    assert megabytes(44_700_000) == "44.7 MB"
