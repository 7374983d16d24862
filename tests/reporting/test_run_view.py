import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fednet.reporting.run_view import overview, verdicts, view_of
from fednet.reporting.tally import tally_of
from fednet.storage.history import RunHistory, Standing, read_history
from tests.reporting.made_up import ATTACKER_REASON, CLASSES, make_run, round_document, settings

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def history(*documents: dict[str, Any], standing: Standing = Standing.RUNNING, **changes: Any) -> RunHistory:
    fields: dict[str, Any] = {
        "folder": Path("runs/first"),
        "run": "r1",
        "begun": NOW - timedelta(hours=1),
        "software": "fednet test",
        "settings": settings(),
        "standing": standing,
        "rounds": documents,
        "ending": "",
    }
    return RunHistory(**(fields | changes))


def live(*workers: dict[str, Any], age_s: float = 0.0, **changes: Any) -> dict[str, Any]:
    updated = (NOW - timedelta(seconds=age_s)).isoformat()
    told = {"updated": updated, "phase": "collecting", "round": 2, "text": "waiting", "workers": list(workers)}
    return told | changes


def seen(name: str, **changes: Any) -> dict[str, Any]:
    fields = {"name": name, "connected": True, "activity": "training", "fraction": 0.5, "samples": 7, "device": "cpu"}
    return fields | changes


def shown(found: RunHistory, said: dict[str, Any] | None = None) -> dict[str, Any]:
    return overview(found, said, now=NOW, events=[], audit=None)


def test_an_empty_run_has_all_fields() -> None:
    found = shown(history())
    assert (found["rounds_done"], found["best_round"], found["left_s"], found["live"]) == (0, None, None, None)
    assert found["series"]["recall"] == {name: [] for name in CLASSES}
    assert found["workers"] == []
    assert verdicts(history()) == {"rounds": [], "workers": [], "grid": []}


def test_series_have_a_value_for_each_round_and_null_where_nothing_was_judged() -> None:
    unjudged = round_document(2)
    del unjudged["test"], unjudged["validation"]
    series = shown(history(round_document(1), unjudged))["series"]
    assert series["round"] == [1, 2]
    assert (series["accuracy"], series["macro_f1"]) == ([0.5, None], [0.49, None])
    assert series["recall"]["glioma"] == [0.5, None]
    assert (series["selected"], series["rejected"], series["absent"]) == ([4, 4], [1, 1], [0, 0])
    assert series["seconds"]["train"] == [3.0, 3.0]


def test_all_of_it_is_json_without_nan() -> None:
    json.dumps(shown(history(round_document(1)), live(seen("client1"))), allow_nan=False)
    json.dumps(view_of(round_document(1)), allow_nan=False)


def test_the_attacker_is_told_apart_with_the_reason() -> None:
    rows = {each["name"]: each for each in shown(history(round_document(1), round_document(2)))["workers"]}
    assert (rows["client5"]["selected"], rows["client5"]["rejected"]) == (0, 2)
    assert rows["client5"]["last_reason"] == ATTACKER_REASON
    assert (rows["client1"]["mean_weight"], rows["client1"]["bytes"]) == (0.25, 2000)
    assert rows["client1"]["transfer_s"] == pytest.approx(1.0)


def test_verdicts_have_a_letter_for_each_worker_and_round() -> None:
    first, second = round_document(1, workers=2), round_document(2, workers=4)
    second["updates"][0] |= {"selected": False, "quarantined": True}
    second |= {"absent": ["late"], "declined": {"shy": "it is noon"}, "revoked": {"gone": "stolen"}}
    third = round_document(3, workers=3)
    assert verdicts(history(first, second, third)) == {
        "rounds": [1, 2, 3],
        "workers": ["client1", "client2", "client3", "client4", "gone", "late", "shy"],
        "grid": ["sqs", "rss", "-sr", "-r-", "-x-", "-a-", "-d-"],
    }


def test_what_a_worker_does_now_comes_from_the_live_file_while_the_run_goes_on() -> None:
    said = live(seen("client1", loss=0.25, remaining_s=9.0), seen("client9", connected=False))
    found = shown(history(round_document(1)), said)
    rows = {each["name"]: each for each in found["workers"]}
    assert (rows["client1"]["activity"], rows["client1"]["fraction"], rows["client1"]["loss"]) == (
        "training",
        0.5,
        0.25,
    )
    assert rows["client9"]["connected"] is False
    assert (found["live"]["workers_connected"], found["live"]["workers_total"]) == (1, 5)
    ended = shown(history(round_document(1), standing=Standing.STOPPED), said)
    assert ended["live"] is None and not any(each["connected"] for each in ended["workers"])


def test_a_silent_coordinator_is_stalled_only_while_the_run_goes_on() -> None:
    assert shown(history(), live(age_s=14))["stalled_s"] is None
    assert shown(history(), live(age_s=20))["stalled_s"] == 20.0
    assert shown(history(standing=Standing.FINISHED), live(age_s=20))["stalled_s"] is None


def test_what_an_earlier_process_said_last_is_not_what_happens_now() -> None:
    events = [{"at": NOW.isoformat(), "what": "resumed", "detail": ""}]
    before = overview(history(), live(seen("client1"), age_s=86400), now=NOW, events=events, audit=None)
    assert (before["live"], before["stalled_s"], before["workers"]) == (None, None, [])
    assert overview(history(), live(), now=NOW, events=events, audit=None)["live"] is not None


def test_a_coordinator_that_hangs_before_it_says_anything_is_stalled_too() -> None:
    resumed = [{"at": (NOW - timedelta(seconds=20)).isoformat(), "what": "resumed", "detail": ""}]
    for said in (None, live(seen("client1"), age_s=86400)):
        found = overview(history(), said, now=NOW, events=resumed, audit=None)
        assert (found["live"], found["stalled_s"]) == (None, 20.0)
    assert shown(history(), None)["stalled_s"] == 3600.0, "it has been silent since it began"
    assert shown(history(begun=NOW), None)["stalled_s"] is None


def test_time_left_follows_from_the_last_rounds() -> None:
    rounds = [round_document(number) for number in (1, 2)]
    assert shown(history(*rounds), live())["left_s"] == 15.0, "three rounds of 5 s"
    assert shown(history(*rounds), live(round_s=4.0))["left_s"] == 11.0
    assert shown(history(*rounds), live(round_s=60.0))["left_s"] == 10.0, "a slow round is not credited twice"
    assert shown(history(*rounds, standing=Standing.STOPPED))["left_s"] is None


def test_who_declined_the_run_is_among_the_workers() -> None:
    found = shown(history(declined=("client7: too many rounds: 10",)))
    assert [(each["name"], each["last_reason"]) for each in found["workers"]] == [
        ("client7", "declined the run: too many rounds: 10")
    ]


def test_class_mix_and_privacy_are_what_was_told_last() -> None:
    told = {"client1": {"confusion": [[3, 1, 0, 0], [0, 2, 0, 0], [0] * 4, [0, 0, 1, 4]]}}
    spent = {"epsilon": 1.5, "delta": 1e-5, "rounds": 1}
    found = shown(history(round_document(1, site_evaluation=told, client_privacy=spent), round_document(2)))
    assert found["class_mix"] == {"client1": [4, 2, 0, 5]}
    assert found["privacy"] == spent


def test_a_round_has_distances_and_a_map_in_which_the_attacker_stands_apart() -> None:
    found = view_of(round_document(1))
    squared = round_document(1)["aggregation"]["squared_distances"]
    assert found["distances"][0][4] == pytest.approx(math.sqrt(squared[0][4]))
    attacker = found["map"][4]
    nearest = min(math.dist(attacker, other) for other in found["map"][:4])
    widest = max(math.dist(one, other) for one in found["map"][:4] for other in found["map"][:4])
    assert nearest > 2 * widest
    assert found["confusion"]["test"] == [[50, 16, 16, 16], [16, 50, 16, 16], [16, 16, 50, 16], [16, 16, 16, 50]]


def test_a_round_whose_distances_were_not_kept_says_how_many_were_left_out() -> None:
    found = view_of(round_document(1, workers=200))
    assert (found["distances"], found["distances_left_out"], len(found["updates"])) == (None, 200, 200)


def test_a_tally_that_grows_round_by_round_shows_what_one_made_at_once_does() -> None:
    documents = [round_document(number, workers=3 + number % 2) for number in range(1, 6)]
    whole = history(*documents)
    tally = tally_of(documents[:2], CLASSES)
    for document in documents[2:]:
        tally.add(document)
    grown = overview(history(), live(seen("client1")), now=NOW, events=[], audit=None, tally=tally)
    assert grown == shown(whole, live(seen("client1")))
    assert tally.verdicts() == verdicts(whole)


def test_a_markup_name_is_data() -> None:
    document = round_document(1)
    document["updates"][0]["worker"] = "<script>alert(1)</script>"
    assert "<script>alert(1)</script>" in {each["name"] for each in shown(history(document))["workers"]}


def test_the_run_folder_of_any_run_can_be_viewed(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=2)
    found = read_history(tmp_path)
    assert (shown(found)["standing"], shown(found)["rounds_done"]) == ("finished", 2)
