from typing import Any

from fednet.audit.run_files import (
    MISSING,
    Damaged,
    FoundModel,
    RoundsModel,
    history_findings,
    kept_findings,
    model_findings,
)

MODEL = FoundModel(sha256="a" * 64, run="run", round=2)
BEST = [RoundsModel(2, "a" * 64), RoundsModel(1, "b" * 64)]


def test_a_model_may_be_any_of_those_it_may_be() -> None:
    assert model_findings("best.pth", MODEL, BEST, run="run") == []
    assert model_findings("best.pth", MODEL, BEST[::-1], run="run") == []


def test_another_model_is_named_by_its_file_and_round() -> None:
    other = FoundModel(sha256="c" * 64, run="another", round=1)
    found = model_findings("final.pth", other, BEST[:1], run="run")
    assert [(each.round, each.file, each.field) for each in found] == [
        (2, "final.pth", "model"),
        (2, "final.pth", "round"),
        (2, "final.pth", "run"),
    ]


def test_a_model_that_is_not_there_is_said() -> None:
    assert str(model_findings("final.pth", MISSING, BEST, run="run")[0]) == "round 2, file final.pth: missing"


def test_a_history_is_named_by_the_field_that_is_not_what_follows() -> None:
    rounds: list[dict[str, Any]] = [{"rounds": [{"round": 1, "loss": 0.5}]}, {"rounds": []}]
    assert history_findings("history.json", {"rounds": []}, rounds) == []
    found = history_findings("history.json", {"rounds": [{"round": 1, "loss": 0.25}]}, rounds)
    assert [each.field for each in found] == ["rounds[0].loss"]
    assert [each.found for each in history_findings("history.json", Damaged("no JSON"), rounds)] == ["no JSON"]


def test_kept_updates_have_their_digests() -> None:
    updates = [{"worker": "client1", "sha256": "a"}, {"worker": "client2", "sha256": "b"}]
    kept = {"spool/round-0001/client1.update": "c"}
    found = kept_findings(1, updates, kept, folder="spool/round-0001")
    assert [(each.file, each.field) for each in found] == [
        ("spool/round-0001/client1.update", "sha256"),
        ("spool/round-0001/client2.update", None),
    ]
