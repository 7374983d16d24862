from collections.abc import Sequence

from fednet.aggregation.reputation import Standing, standings, suspects, warning

WINDOW = 5


def verdicts(selected: Sequence[bool], cosine: float | None) -> list[list[dict[str, object]]]:
    return [
        [
            {"worker": "client1", "selected": True, "cosine": 0.9, "weight": 1.0 - 0.5 * each},
            {"worker": "client2", "selected": each, "cosine": cosine, "weight": 0.5 * each},
        ]
        for each in selected
    ]


def found(selected: Sequence[bool], cosine: float | None = 0.5) -> list[Standing]:
    return standings(verdicts(selected, cosine), window=WINDOW)


def listed(selected: Sequence[bool], rejections: int = WINDOW) -> list[str]:
    return [each.worker for each in suspects(found(selected), rejections=rejections, window=WINDOW)]


def test_all_rounds_are_counted_by_name() -> None:
    first, second = found([True, False, False])
    assert (first.worker, first.rounds, first.rejected) == ("client1", 3, 0)
    assert (second.worker, second.rounds, second.rejected) == ("client2", 3, 2)
    assert (first.mean_weight, second.mean_weight) == ((0.5 + 1 + 1) / 3, 0.5 / 3)


def test_a_worker_that_is_selected_once_in_a_while_is_no_cause_for_alarm() -> None:
    assert listed([False] * (WINDOW - 1) + [True]) == []
    assert listed([False] * (WINDOW - 1)) == []
    assert listed([False] * WINDOW) == ["client2"]


def test_an_operator_may_be_stricter() -> None:
    assert listed([False, True, False, True, False], rejections=3) == ["client2"]
    assert listed([False, True, False, True, False], rejections=4) == []


def test_what_happened_long_ago_is_forgiven() -> None:
    assert listed([False] * 20 + [True] * WINDOW, rejections=1) == []


def test_the_worst_suspect_comes_first() -> None:
    rounds: list[list[dict[str, object]]] = [
        [
            {"worker": "a", "selected": number == 0, "cosine": -0.9},
            {"worker": "b", "selected": False, "cosine": 0.4},
            {"worker": "c", "selected": False, "cosine": -0.4},
        ]
        for number in range(WINDOW)
    ]
    ranked = suspects(standings(rounds, window=WINDOW), rejections=4, window=WINDOW)
    assert [each.worker for each in ranked] == ["c", "b", "a"]


def test_an_always_rejected_worker_that_agrees_with_the_others_may_be_honest() -> None:
    text = warning(found([True] + [False] * WINDOW, cosine=0.45)[1])
    assert "may be an honest hospital whose patients differ. --pre nnm" in text


def test_one_that_points_away_is_to_be_looked_at() -> None:
    assert "look at what it sends" in warning(found([False] * WINDOW, cosine=-0.6)[1])
    assert "look at what it sends" in warning(found([False] * WINDOW, cosine=None)[1])


def test_what_validation_says_counts_more_than_the_direction() -> None:
    agreeing, opposing = found([False] * WINDOW, cosine=0.6)[1], found([False] * WINDOW, cosine=-0.6)[1]
    assert "validation would improve" in warning(opposing, would_improve=True)
    assert "look at what it sends" in warning(agreeing, would_improve=False)
