import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fednet.reporting.report import Checked
from fednet.storage.history import Standing
from tests.reporting.made_up import ATTACKER_REASON, round_document, settings
from tests.reporting.pages import EVIL, NOW, Seen, card_of, history, renamed, report

MOST_BYTES = 2_000_000


def test_a_page_stands_alone() -> None:
    documents = [round_document(number) for number in (1, 2, 3)]
    page = report(history(*documents), cards=[card_of(*documents)])
    seen = Seen(page)
    assert "script" not in seen.tags and "link" not in seen.tags
    assert all(each.startswith(("#", "data:image/png;base64,")) for each in seen.addresses)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    assert len(seen.ids) == len(set(seen.ids))
    assert {each[1:] for each in seen.addresses if each.startswith("#") and each in page} <= {*seen.ids}


def test_who_was_rejected_and_why_is_said_at_the_top() -> None:
    text = Seen(report(history(round_document(1), round_document(2)))).text
    top = text[: text.index("Is it learning?")]
    assert "Finished and healthy, after all 2 rounds. The model gets 75.0 % of 400 unseen scans right." in top
    assert f"client5 was rejected in 2 of 2 rounds: {ATTACKER_REASON.removeprefix('rejected: ')}." in top
    assert "Rejected updates 2 of 10 1 worker stands apart" in top


def test_whatever_a_worker_is_called_and_says_is_text() -> None:
    document = renamed(round_document(1), EVIL)
    document["updates"][-1]["reason"] = f"rejected: {EVIL}"
    document |= {"declined": {f"{EVIL}2": EVIL}, "revoked": {"client7": EVIL}, "refused": {"reason": EVIL}}
    events = [{"at": NOW.isoformat(), "what": EVIL, "detail": EVIL}]
    page = report(
        history(
            document, ending=EVIL, standing=Standing.STOPPED, folder=Path("runs") / "<i>", declined=(f"{EVIL}: no",)
        ),
        events=events,
        checked=Checked(findings=[EVIL]),
        cards=[card_of(document)],
    )
    seen = Seen(page)
    assert "script" not in seen.tags and "i" not in seen.tags and "<script" not in page
    assert seen.text.count(EVIL) > 10


def test_a_run_without_rounds_says_so() -> None:
    seen = Seen(report(history(standing=Standing.STOPPED, ending="its process was killed, or lost power")))
    assert "Stopped before its first round was over (its process was killed, or lost power)" in seen.text
    assert "No round is committed yet: there is nothing to draw." in seen.text
    assert "svg" not in seen.tags


def test_a_run_of_one_round_has_its_pictures() -> None:
    seen = Seen(report(history(round_document(1))))
    assert seen.tags.count("svg") == 9
    assert "After round 1, the last and the best by validation" in seen.text


def test_a_run_without_a_test_set_says_so() -> None:
    documents = [{**round_document(number), "test": None, "validation": None} for number in (1, 2)]
    text = Seen(report(history(*documents))).text
    assert "There is no test set, so nothing is known of how good the model is." in text
    assert "so there is neither accuracy nor a confusion matrix" in text


def test_a_run_that_goes_on_and_one_that_hangs_are_told_apart() -> None:
    said: dict[str, Any] = {"updated": NOW.isoformat(), "phase": "collecting", "round": 2, "text": "", "workers": []}
    going = history(round_document(1), standing=Standing.RUNNING, settings=settings())
    assert "Running well, 1 of 5 rounds done." in Seen(report(going, live=said)).text
    later = Seen(report(going, live=said, made=NOW + timedelta(seconds=40)))
    assert "No sign of life for 40 s, after 1 of 5 rounds" in later.text


@pytest.mark.parametrize(
    ("checked", "said"),
    [
        (Checked(lines=["7 records"]), "verifies Every record is signed"),
        (Checked(findings=["round 2: weight: found 1"]), "does not verify The run's files are not as"),
        (Checked(why_not="certs/authority/ca.pem; found no such file"), "not checked certs/authority/ca.pem; found no"),
    ],
)
def test_what_the_check_of_the_record_came_to_is_said(checked: Checked, said: str) -> None:
    assert said in Seen(report(history(round_document(1)), checked=checked)).text


def test_a_run_that_does_not_verify_is_not_called_healthy() -> None:
    text = Seen(report(history(round_document(1)), checked=Checked(findings=["one", "two"]))).text
    assert "Do not rely on this run: 2 things are not as its coordinator signed it." in text
    assert "healthy" not in text


def test_settings_split_card_and_privacy_are_there() -> None:
    private: dict[str, Any] = {"epsilon": 1.5, "delta": 1e-5, "rounds": 1, "clipped": 2, "epsilon_of_another": 2.0}
    private |= {"clip": 1.0, "noise_deviation": 0.5, "sensitivity": 1.0, "adjacency": "replace one"}
    document = round_document(1, client_privacy=private)
    text = Seen(report(history(document), cards=[card_of(document)])).text
    assert "image_size 64" in text and "training.batch_size" in text
    assert "dataset 2200 phantoms of 64 pixels" in text and "client1_data 1 2 3 4 10" in text
    assert "final.pth: round 1, the last" in text and "It is not a medical device." in text
    assert "Client-level differential privacy: epsilon 1.5 at delta 1e-05" in text


def test_what_sites_say_of_the_model_is_shown() -> None:
    confusion = [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 4]]
    told = {"of_round": 1, "images": 8, "accuracy": 0.875, "macro_f1": 0.8, "confusion": confusion}
    text = Seen(report(history(round_document(1), round_document(2, site_evaluation={"client1": told})))).text
    assert "client1 1 8 87.5 % 0.822 50.0 % (glioma) 2 / 2 / 0 / 4" in text


def test_a_large_run_stays_small_and_says_what_it_leaves_out() -> None:
    documents = [round_document(number, workers=400) for number in range(1, 81)]
    for number, document in enumerate(documents):
        for each in document["updates"][number::5]:
            each |= {"selected": False, "reason": f"rejected: {'it is far away ' * 40}"}
    page = report(history(*documents, settings=settings(rounds=80, workers=400, quorum=400)))
    assert len(page) < MOST_BYTES
    text = Seen(page).text
    assert "Shown are 30 of 400 workers: those that did not count most often." in text
    assert "Shown are 40 of 80 rounds: the last ones." in text
    assert "Shown are 50 of 80 rounds: the last ones." in text
    assert "The distances of 400 updates are not drawn" in text
