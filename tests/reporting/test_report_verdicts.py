from typing import Any

from fednet.reporting.model_card import contributions
from fednet.reporting.report_verdicts import away, last_round, reasons, verdict_grid
from fednet.reporting.run_view import overview, verdicts, view_of
from tests.reporting.made_up import round_document
from tests.reporting.pages import NOW, history


def judged(document: dict[str, Any]) -> dict[str, Any]:
    view = overview(history(document), None, now=NOW, events=[], audit=None)
    return last_round(view, view_of(document))


def test_the_grid_begins_with_whoever_was_rejected_and_says_why() -> None:
    documents = [
        round_document(1),
        round_document(2, workers=4, absent=["client5"], declined={"client6": "it is night"}),
    ]
    grid = verdict_grid(verdicts(history(*documents)), documents, contributions(documents))
    assert [name for name, _ in grid["rows"]][:2] == ["client4", "client5"]
    rows = dict(grid["rows"])
    assert [cell[0] for cell in rows["client5"]] == ["r", "a"]
    assert rows["client5"][0][2].startswith("its update is 1 times as large")
    assert rows["client6"] == [("-", "none", ""), ("d", "d", "it is night")]
    assert [each[0] for each in grid["key"]] == ["s", "r", "a", "d", "-"]
    assert grid["left_out"] == []


def test_alike_reasons_are_one_the_most_frequent_first() -> None:
    documents = [round_document(number) for number in (1, 2, 3)]
    documents[1]["updates"][0] |= {"selected": False, "reason": "rejected: it is too late"}
    rows = reasons(contributions(documents)).rows
    assert [row[:3] for row in rows] == [("client5", "3 of 3", "1 to 3"), ("client1", "1 of 3", "2")]


def test_who_sent_nothing_is_counted_with_the_last_reason() -> None:
    documents = [
        round_document(1, absent=["client8"], declined={"client7": "no"}),
        round_document(2, declined={"client7": "still no"}, revoked={"client9": "stolen key"}),
    ]
    assert away(documents, ["client6: never"]).rows == [
        ("client6", "declined the run", "-", "-", "never"),
        ("client7", "declined", 2, 2, "still no"),
        ("client8", "absent", 1, 1, "no update of it was in time"),
        ("client9", "revoked", 1, 2, "stolen key"),
    ]


def test_the_last_round_has_a_picture_of_whatever_is_known_of_it() -> None:
    found = judged(round_document(3))
    assert found["text"] == "Round 3, by nnm+multikrum (f = 1): 4 of 5 updates counted."
    assert [each["title"] for each in found["pictures"]] == [
        "Scores, with the cut",
        "Map of the updates",
        "Size and direction",
        "Distance of every two updates",
    ]
    bare = round_document(3) | {"aggregation": {}}
    assert judged(bare)["pictures"] == []


def test_what_is_not_drawn_of_a_large_round_is_said() -> None:
    large = round_document(1, workers=1200)
    no_distances = "The distances of 1,200 updates are not drawn: nobody would see a cell."
    assert judged(large)["notes"] == [no_distances]
    large["aggregation"]["map"] = [[float(number), 0.0] for number in range(1200)]
    assert judged(large)["notes"] == [
        no_distances,
        "The map shows 1,000 of 1,200 updates: those that did not count first.",
    ]
