from typing import Any

from fednet.reporting.worker_report import worker_report
from tests.reporting.pages import EVIL, NOW, Seen, found, update


def text_of(document: dict[str, Any], name: str = "client2") -> str:
    return Seen(worker_report(document, name=name, made=NOW)).text


def test_what_left_the_hospital_is_listed() -> None:
    text = text_of(found(update(1), update(2), update(3, "rejected")))
    assert "3 updates of 1 run have left this hospital, 3.0 MiB in all." in text
    assert f"2 2026-11-26 12:00:02 UTC 1,048,576 40 3.0 s 0.500 none counted, weight 0.25 {2:064x}" in text
    assert "1 of 3 updates that were judged did not count." in text
    assert "holds The run's signed record holds up to round 3, signatures included." in text


def test_whoever_is_mostly_rejected_is_told_to_look() -> None:
    text = text_of(found(update(1, "rejected"), update(2, "rejected")))
    assert "Somebody should look: 2 of 2 updates that were judged did not count. Why the last" in text
    assert f"of round 2: {EVIL}." in text


def test_of_several_runs_the_last_reason_is_the_newest_runs() -> None:
    (old,) = found(update(9, "rejected", reason="rejected: old"))["runs"]
    (new,) = found(update(1, "rejected", reason="rejected: new", at_s=NOW.timestamp() + 100))["runs"]
    text = text_of(found(runs=[old, new | {"run": "r2"}]))
    assert "Why the last of these did not, of round 1: new." in text


def test_no_identifier_stands_twice_in_a_page_of_several_runs() -> None:
    (run,) = found(*map(update, (1, 2, 3)))["runs"]
    seen = Seen(worker_report(found(runs=[run, run | {"run": "r2"}]), name="client2", made=NOW))
    assert seen.ids and len(seen.ids) == len({*seen.ids})


def test_the_page_stands_alone_whatever_it_is_told() -> None:
    document = found(update(1, "rejected"), finding=EVIL) | {"log": EVIL}
    page = worker_report(document, name=EVIL, made=NOW)
    seen = Seen(page)
    assert "script" not in seen.tags and seen.text.count(EVIL) >= 4
    assert all(each.startswith(("#", "data:")) for each in seen.addresses)
    assert "http" not in page.replace("http-equiv", "")


def test_nothing_sent_and_no_record_look_right() -> None:
    text = text_of(found(runs=[], bytes=0))
    assert "Nothing has left this hospital." in text
    unknown = update(1, "not known yet", at_s=None, nbytes=None, samples=None, train_s=None, loss=None, weight=None)
    text = text_of(found(unknown | {"is_acknowledged": False, "reason": ""}))
    assert "None of them was judged yet." in text and "some of it may have arrived" in text


def test_privacy_is_told_in_place_of_losses() -> None:
    spent = {"epsilon": 1.25, "delta": 1e-5, "budget": 8.0, "rounds": 2, "runs": 1}
    text = text_of(found(update(1, epsilon=1.25, delta=1e-5), privacy=spent))
    assert "Epsilon 1.250 of 8 at delta 1e-05, in 2 trainings of 1 run." in text
    assert "not told" in text and "Loss of local training" not in text


def test_a_long_history_is_cut_and_says_so() -> None:
    document = found(*(update(number, "rejected" if number % 3 else "selected") for number in range(1, 1001)))
    document["runs"] = document["runs"] * 20
    page = worker_report(document, name="client2", made=NOW)
    assert len(page) < 2_500_000
    text = Seen(page).text
    assert "Shown are 10 of 20 runs: the last ones." in text
    assert "Shown are 50 of 1,000 updates: the last ones." in text
