from collections.abc import Sequence

from fednet.aggregation.reputation import WINDOW, Standing, standings, warning


def verdicts(selected: Sequence[bool], cosine: float | None) -> list[list[dict[str, object]]]:
    return [
        [
            {"worker": "client1", "selected": True, "cosine": 0.9},
            {"worker": "client2", "selected": each, "cosine": cosine},
        ]
        for each in selected
    ]


def standing(selected: Sequence[bool], cosine: float | None = 0.5) -> Standing:
    return standings(verdicts(selected, cosine))[1]


def test_all_rounds_are_counted_by_name() -> None:
    found = standings(verdicts([True, False, False], 0.5))
    assert [(each.worker, each.rounds, each.rejected) for each in found] == [("client1", 3, 0), ("client2", 3, 2)]


def test_a_worker_that_is_selected_once_in_a_while_is_no_cause_for_alarm() -> None:
    assert warning(standing([False] * (WINDOW - 1) + [True])) is None
    assert warning(standing([False] * (WINDOW - 1))) is None


def test_what_happened_long_ago_is_forgiven() -> None:
    assert warning(standing([False] * 20 + [True] * WINDOW)) is None


def test_an_always_rejected_worker_that_agrees_with_the_others_may_be_honest() -> None:
    text = warning(standing([True] + [False] * WINDOW, cosine=0.45))
    assert text is not None
    assert "may be an honest hospital whose patients differ. --pre nnm" in text


def test_one_that_points_away_is_to_be_looked_at() -> None:
    assert "look at what it sends" in (warning(standing([False] * WINDOW, cosine=-0.6)) or "")
    assert "look at what it sends" in (warning(standing([False] * WINDOW, cosine=None)) or "")
