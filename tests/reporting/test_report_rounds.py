from typing import Any

from fednet.reporting.report_rounds import confusions, courses, phases, rounds_table, some
from fednet.reporting.run_view import overview
from tests.reporting.made_up import CLASSES, round_document
from tests.reporting.pages import NOW, history


def view(*documents: dict[str, Any]) -> dict[str, Any]:
    return overview(history(*documents), None, now=NOW, events=[], audit=None)


def test_what_is_not_known_has_no_picture() -> None:
    unjudged = round_document(1) | {"test": None, "validation": None}
    assert [each["title"] for each in courses(view(unjudged))] == ["Updates of each round"]
    assert [each["title"] for each in courses(view(unjudged, round_document(2)))] == [
        "Accuracy and macro F1",
        "Recall of each class",
        "Loss",
        "Updates of each round",
    ]


def test_a_picture_says_in_words_how_it_ends() -> None:
    (loss,) = (each for each in courses(view(round_document(1), round_document(2))) if each["title"] == "Loss")
    assert loss["text"].endswith("At the end: loss 0.750.")


def test_seconds_are_added_up_by_phase() -> None:
    rows = phases(view(round_document(1), round_document(2)))["rows"]
    assert rows[0] == ("train", "3.0 s", "6.0 s", "60.0 %")
    assert [row[0] for row in rows] == ["train", "transfer", "aggregate", "evaluate", "commit"]


def test_the_last_rounds_are_listed() -> None:
    found = rounds_table([round_document(number) for number in range(1, 61)])
    assert (found.rows[0][0], found.rows[-1][0]) == (11, 60)
    assert found.left_out == "Shown are 50 of 60 rounds: the last ones."
    assert found.rows[0][5:7] == ("4 of 5", "client5")
    assert (
        rounds_table([round_document(1, refused={"reason": "worse"})]).rows[0][6].endswith("the guard refused the step")
    )


def test_the_best_round_has_a_confusion_of_its_own() -> None:
    first, last = round_document(1), round_document(2)
    assert [each["title"] for each in confusions(CLASSES, last, first)] == [
        "After round 2, the last",
        "After round 1, the best by validation",
    ]
    (one,) = confusions(CLASSES, last, last)
    assert one["rows"][0] == ("glioma", [(75, 76), (8, 8), (8, 8), (8, 8)])
    assert confusions(CLASSES, last | {"test": None}, first | {"test": {"accuracy": 0.5}}) == []


def test_of_many_names_some_are_said() -> None:
    assert (some([]), some(["a", "b"]), some([*"abcdef"])) == ("-", "a, b", "a, b, c, d and 2 more")
