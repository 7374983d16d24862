from typing import Any

import pytest

from fednet.config import WorkerName
from fednet.coordinator.conclusions import (
    history_of,
    quarantined_after,
    refusal_of_step,
    resent_after,
    suspects_after,
)
from fednet.ranking import best_of
from tests.audit.finished import settings


def document(number: int, *, macro_f1: float = 0.5, loss: float = 0.5, rejected: str = "client3") -> dict[str, Any]:
    """Return what the record of a round says, as far as conclusions are drawn from it."""
    updates = [
        {"worker": name, "selected": name != rejected, "cosine": 0.5, "weight": 0.5} for name in ("client1", "client3")
    ]
    return {"round": number, "updates": updates, "validation": {"macro_f1": macro_f1, "loss": loss}}


def test_the_best_round_is_the_first_of_the_best_by_validation() -> None:
    assert best_of([document(1), document(2, macro_f1=0.75), document(3, macro_f1=0.75)]) == 2
    assert best_of([document(1), document(2, loss=0.25)]) == 2
    assert best_of([document(1) | {"validation": None}, document(2)]) == 2


def test_history_says_what_follows_from_the_rounds() -> None:
    documents = [document(1), document(2, macro_f1=0.75)]
    history = history_of("run", settings(), documents)
    assert (history["run"], history["best_round"], history["rounds"]) == ("run", 2, documents)
    assert [(each["worker"], each["rejected"]) for each in history["standings"]] == [("client1", 0), ("client3", 2)]


def test_who_was_rejected_often_enough_is_left_out_if_the_operator_says_so() -> None:
    documents = [document(number) for number in (1, 2, 3)]
    lenient = settings(reputation_window=3)
    assert [each.worker for each in suspects_after(documents, lenient)] == ["client3"]
    assert quarantined_after(documents, lenient) == {}
    strict = settings(workers=5, quorum=5, byzantine=1, reputation_window=3, quarantine=2)
    assert quarantined_after(documents, strict) == {"client3": "quarantined, after 3 rejections in 3 rounds"}
    assert quarantined_after(documents[:2], strict) == {}


def sent(number: int, model: str, **digests: str) -> dict[str, Any]:
    """Return a round after which the model is this one, in which these updates came."""
    updates = [{"worker": worker, "sha256": digest, "norm": 1.0} for worker, digest in digests.items()]
    return {"round": number, "updates": updates, "model_sha256": model}


def test_who_sends_an_earlier_update_is_named_with_whose_it_was() -> None:
    screened = settings(pre=("similarity",))
    rounds = [sent(1, "m1", client1="a", client3="b"), sent(2, "m2", client1="c", client3="d")]
    now = {WorkerName("client1"): "e", WorkerName("client2"): "a", WorkerName("client3"): "d"}
    assert resent_after(rounds, now, screened) == {
        "client2": "sent again: client1's update of round 1",
        "client3": "sent again: client3's update of round 2",
    }
    assert resent_after(rounds, now, settings()) == {}, "nobody asked for it"
    assert resent_after([], now, screened) == {}


def test_updates_of_nothing_or_from_the_same_model_are_not_sent_again() -> None:
    screened = settings(pre=("similarity:within=0.1",))
    nothing = sent(1, "m1", client1="a")
    nothing["updates"][0]["norm"] = 0.0
    assert resent_after([nothing], {WorkerName("client1"): "a"}, screened) == {}
    rounds = [sent(1, "m1", client1="a"), sent(2, "m1", client1="b") | {"refused": {"reason": "worse"}}]
    assert resent_after(rounds, {WorkerName("client1"): "b"}, screened) == {}, "round 3 starts from the same model"
    assert resent_after(rounds, {WorkerName("client1"): "a"}, screened) != {}


@pytest.mark.parametrize(
    ("accuracy", "loss", "is_refused"),
    [(0.81, 0.9, False), (0.75, 0.9, False), (0.65, 0.9, True), (0.65, 0.4, False)],
)
def test_the_guard_refuses_a_clear_fall_that_the_loss_confirms(accuracy: float, loss: float, is_refused: bool) -> None:
    before = {"validation": {"accuracy": 0.8, "loss": 0.5}}
    judged = {"validation": {"accuracy": accuracy, "loss": loss}}
    reason = refusal_of_step(before, judged, guard=0.1)
    assert (reason is not None) is is_refused
    assert refusal_of_step(before, judged, guard=0.0) is None
    assert refusal_of_step(None, judged, guard=0.1) is None
