from typing import Any

import pytest

from fednet.reporting.health import BAD, GOOD, WATCH, Health, health_of, plain_reason, standing_apart

REASON = "rejected: its update points away from the selected ones"


def view(rounds: int = 4, **changes: Any) -> dict[str, Any]:
    series: dict[str, Any] = {
        "round": [*range(1, rounds + 1)],
        "accuracy": [0.9] * rounds,
        "validation_accuracy": [0.8] * rounds,
        "loss": [0.5] * rounds,
        "absent": [0] * rounds,
    }
    fields = {
        "standing": "finished",
        "stalled_s": None,
        "ending": "finished: all rounds are done",
        "rounds_done": rounds,
        "rounds_total": rounds,
        "byzantine": 1,
        "recipe": "nnm+multikrum",
        "best_round": rounds or None,
        "settings": {"workers": 5},
        "series": series | changes.pop("series", {}),
    }
    return fields | changes


def site(name: str, *, updates: int = 4, missed: int = 0) -> dict[str, Any]:
    why = {"updates": missed, "first_round": 1, "last_round": missed, "reason": REASON}
    return {"site": name, "updates": updates, "counted": updates - missed, "not_counted": [why] if missed else []}


def judged(found: dict[str, Any], *sites: dict[str, Any], **changes: Any) -> Health:
    fields: dict[str, Any] = {"images": 300, "refused": [], "changed": 0}
    return health_of(found, sites, **(fields | changes))


def test_an_attacker_that_is_kept_out_leaves_the_run_healthy() -> None:
    found = judged(view(), site("client1"), site("client5", missed=4))
    assert (found.level, found.title) == (
        GOOD,
        "Finished and healthy, after all 4 rounds. The model gets 90.0 % of 300 unseen scans right.",
    )
    assert found.sentences == (
        "client5 was rejected in 4 of 4 rounds: its update points away from the selected ones.",
        "All other updates counted.",
    )


def test_rejections_that_are_spread_name_nobody() -> None:
    found = judged(view(), *(site(f"client{number}", missed=1) for number in range(1, 5)), site("client5"))
    assert found.level == GOOD
    assert found.sentences == (
        "Nobody stands out: 4 of 20 updates, of 4 workers, did not count: a robust rule leaves out the farthest even "
        "where all are honest.",
    )


def test_more_that_stand_apart_than_the_rule_withstands_is_a_worry() -> None:
    found = judged(view(), site("client4", missed=3), site("client5", missed=4))
    assert found.level == WATCH
    assert (
        "2 workers stand apart, and the rule is set to withstand at most 1: the model may be spoilt." in found.sentences
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"series": {"validation_accuracy": [0.8, 0.9, 0.8, 0.7]}, "best_round": 2},
            "that of round 2 90.0 %: best.pth",
        ),
        ({"series": {"loss": [0.5, 0.5, 0.5, float("nan")]}}, "no finite number"),
        ({"series": {"absent": [0, 0, 2, 0]}}, "Of late 2 workers sent no update in time"),
    ],
)
def test_what_somebody_should_look_at_is_said(changes: dict[str, Any], said: str) -> None:
    found = judged(view(**changes), site("client1"))
    assert found.level == WATCH
    assert any(said in each for each in found.sentences)


def test_steps_that_the_guard_refused_are_said() -> None:
    assert "The guard refused 2 steps, the last in round 3" in " ".join(judged(view(), refused=[2, 3]).sentences)


def test_a_worse_test_result_chooses_nothing() -> None:
    found = judged(view(series={"accuracy": [0.9, 0.99, 0.9, 0.5]}), site("client1"))
    assert (found.level, found.sentences) == (GOOD, ("Nobody was rejected.",))


def test_files_that_were_changed_outweigh_all_else() -> None:
    found = judged(view(), site("client1"), changed=1)
    assert (found.level, found.title[:60]) == (BAD, "Do not rely on this run: 1 thing is not as its coordinator s")


def test_one_rejection_of_several_is_not_standing_apart() -> None:
    sites = [site("a", updates=1, missed=1), site("b", updates=2, missed=1), site("c", updates=4, missed=2), site("d")]
    assert [each["site"] for each in standing_apart(sites, recipe="nnm+multikrum")] == ["c", "a"]


@pytest.mark.parametrize("recipe", ["krum", "multikrum:m=1"])
def test_a_rule_that_takes_few_leaves_an_honest_run_healthy(recipe: str) -> None:
    sites = [site("client1", updates=6, missed=2), site("client2", updates=6, missed=4)]
    sites += [site(f"client{number}", updates=6, missed=6) for number in (3, 4, 5)]
    found = judged(view(recipe=recipe), *sites)
    assert (found.level, standing_apart(sites, recipe=recipe)) == (GOOD, [])
    assert found.sentences == (
        f"{recipe} takes few updates a round, 6 of 30 in all: whoever it left out may be honest.",
    )


def test_a_rule_that_takes_most_and_left_most_out_is_a_worry() -> None:
    sites = [site("client1"), *(site(f"client{number}", missed=4) for number in (2, 3, 4))]
    found = judged(view(recipe="fltrust"), *sites)
    assert found.level == WATCH
    assert any("3 workers stand apart" in each for each in found.sentences)


def test_only_the_worst_are_named() -> None:
    found = judged(view(byzantine=9), *(site(f"client{number}", missed=4) for number in range(9)))
    assert sum("was rejected in 4 of 4 rounds" in each for each in found.sentences) == 3
    assert "6 more workers were rejected in at least half of their rounds." in found.sentences


def test_a_long_reason_is_cut() -> None:
    assert plain_reason("rejected: too far.") == "too far"
    assert len(plain_reason("x" * 1000)) == 300
