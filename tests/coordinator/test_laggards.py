from typing import Any

from fednet.coordinator.laggards import laggards


def rounds(*times: dict[str, float | None]) -> list[dict[str, Any]]:
    """Documents of rounds in which each worker delivered after so many seconds; None: it missed the round."""
    return [
        {
            "updates": [{"worker": name, "arrived_s": value} for name, value in each.items() if value is not None],
            "absent": [name for name, value in each.items() if value is None],
        }
        for each in times
    ]


FAST: dict[str, float | None] = {"a": 20.0, "b": 21.0, "c": 22.0}


def test_workers_of_one_pace_are_nobodys_worry() -> None:
    assert laggards(rounds(*[FAST] * 5)) == []


def test_who_is_slow_in_three_rounds_is_named_with_its_times() -> None:
    slow = [FAST | {"d": seconds} for seconds in (61.0, 64.0, 60.0)]
    assert laggards(rounds(*slow[:2])) == []
    assert laggards(rounds(*slow)) == [
        "d was too slow in 3 rounds in a row (61 s, 64 s, 60 s; the others' median is 21 s). "
        "Is its machine or its link at its limit?"
    ]


def test_who_misses_rounds_is_slow_too() -> None:
    (said,) = laggards(rounds(*[FAST | {"d": value} for value in (None, 70.0, None)]))
    assert "(missed the round, 70 s, missed the round;" in said


def test_one_good_round_forgives() -> None:
    assert laggards(rounds(*[FAST | {"d": value} for value in (60.0, 60.0, 20.0, 60.0)])) == []


def test_it_is_said_again_only_after_three_more() -> None:
    slow = [FAST | {"d": 60.0}] * 6
    assert [len(laggards(rounds(*slow[:count]))) for count in range(1, 7)] == [0, 0, 1, 0, 0, 1]


def test_rounds_of_a_moment_have_no_laggards() -> None:
    quick: dict[str, float | None] = {"a": 0.1, "b": 0.1, "d": 0.9}
    assert laggards(rounds(*[quick] * 3)) == []


def test_rounds_of_an_older_version_name_nobody() -> None:
    assert laggards([{"updates": [{"worker": "a"}, {"worker": "b"}]}] * 3) == []
