from dataclasses import replace
from typing import Any

import pytest

from fednet.audit.own_chain import OwnChain
from fednet.config import TrainingSettings
from fednet.errors import AuditError, RemoteProtocolError
from fednet.protocol.messages import (
    Goodbye,
    Hello,
    ModelWanted,
    Records,
    RecordsWanted,
    RoundDeclined,
    RoundStarted,
    RunStatus,
    UpdateAccepted,
    UpdateOffered,
    UpdateRefused,
    UpdateWanted,
)
from fednet.worker.consent import WorkerConsent
from fednet.worker.session import (
    BeginTask,
    DropTask,
    Heard,
    KeepAcknowledged,
    KeepHeader,
    KeepOffered,
    KeepRecord,
    KeepWithdrawn,
    Leave,
    LinkLost,
    LookedAgain,
    ModelReceived,
    ReceiveModel,
    Send,
    SendUpdate,
    SessionEnded,
    ShowNotice,
    ShowRound,
    Stage,
    StopReceiving,
    Train,
    UpdateSaved,
    WorkerSession,
)
from tests.audit.records import RUN, chain, check, closing, digest, headers, shown

TRAINING: dict[str, Any] = {"local_epochs": 1, "batch_size": 8, "learning_rate": 0.1}
SAVED = UpdateSaved(round=1, nbytes=10, sha256="cd" * 32, samples=5, train_s=1.0, loss=0.5)


def round_started(number: int = 1, **changes: Any) -> RoundStarted:
    fields: dict[str, Any] = {
        "round": number,
        "rounds": 3,
        "transfer": number,
        "nbytes": 10,
        "sha256": "ab" * 32,
        "training": TRAINING,
        "seed": 0,
        "remaining_s": 60.0,
    }
    return RoundStarted(**(fields | changes))


def session(**consent: Any) -> WorkerSession:
    chain = OwnChain(run=RUN, worker="b", check_signature=check)
    return WorkerSession(consent=WorkerConsent(**consent), chain=chain)


def offered(commands: list[Any]) -> UpdateOffered:
    kept, sent = commands
    assert isinstance(kept, KeepOffered), "what leaves is written down before"
    assert isinstance(sent, Send) and isinstance(sent.message, UpdateOffered)
    return sent.message


def trained() -> WorkerSession:
    worker = session()
    worker.handle(Heard(round_started()))
    worker.handle(ModelReceived(1))
    return worker


def test_a_round_is_received_trained_and_offered() -> None:
    worker = session()
    started = round_started()
    assert worker.handle(Heard(started)) == [BeginTask(started), ReceiveModel(started)]
    assert worker.handle(ModelReceived(1)) == [Train(started, TrainingSettings(**TRAINING))]
    offer = offered(worker.handle(SAVED))
    assert (offer.round, offer.sha256, offer.samples) == (1, "cd" * 32, 5)
    wanted = UpdateWanted(round=1, transfer=offer.transfer, offset=4, window=2**20)
    assert worker.handle(Heard(wanted)) == [SendUpdate(offer.transfer, 4, 2**20)]
    worker.handle(Heard(UpdateAccepted(round=1, sha256=SAVED.sha256)))
    assert worker.stage is Stage.DELIVERED


def test_what_was_found_on_held_out_scans_goes_with_every_offer() -> None:
    worker = trained()
    assert offered(worker.handle(replace(SAVED, confusion=(6, 1, 0, 5)))).confusion == [6, 1, 0, 5]
    worker.handle(LinkLost())
    assert offered(worker.handle(Heard(round_started()))[1:]).confusion == [6, 1, 0, 5]


def test_a_trained_update_is_offered_again_after_a_reconnect_and_not_trained_again() -> None:
    worker = trained()
    first = offered(worker.handle(SAVED))
    worker.handle(LinkLost())
    again = worker.handle(Heard(round_started(transfer=77)))
    assert again[0] == Send(ModelWanted(round=1, transfer=77, offset=10))
    second = offered(again[1:])
    assert second.sha256 == first.sha256
    assert second.transfer != first.transfer


def test_training_goes_on_while_the_link_is_away_and_the_update_waits_for_it() -> None:
    worker = trained()
    worker.handle(LinkLost())
    assert worker.handle(SAVED) == []
    commands = worker.handle(Heard(round_started()))
    assert isinstance(commands[0], Send) and isinstance(commands[0].message, ModelWanted)
    offered(commands[1:])


def test_a_broken_download_is_taken_up_and_not_begun_anew() -> None:
    worker = session()
    worker.handle(Heard(round_started()))
    worker.handle(LinkLost())
    again = round_started(transfer=9)
    assert worker.handle(Heard(again)) == [ReceiveModel(again)]


def test_a_new_round_drops_the_task_before_it() -> None:
    worker = trained()
    started = round_started(2)
    assert worker.handle(Heard(started)) == [BeginTask(started), ReceiveModel(started)]
    assert worker.handle(SAVED) == []
    assert worker.handle(ModelReceived(1)) == []


def test_the_same_round_with_another_model_is_another_task() -> None:
    worker = trained()
    other = round_started(sha256="ef" * 32)
    assert worker.handle(Heard(other)) == [BeginTask(other), ReceiveModel(other)]


def declined(commands: list[Any]) -> RoundDeclined:
    dropped, sent, shown_to_person = commands
    assert dropped == DropTask()
    assert isinstance(sent, Send) and isinstance(sent.message, RoundDeclined)
    assert sent.message.reason in shown_to_person.text
    return sent.message


@pytest.mark.parametrize("training", [{"local_epochs": 100}, {"learning_rate": 5.0}])
def test_a_round_that_asks_for_too_much_is_declined_with_the_reason_and_the_next_one_is_trained(
    training: dict[str, Any],
) -> None:
    worker = session()
    assert "agreed" in declined(worker.handle(Heard(round_started(training=TRAINING | training)))).reason
    assert worker.handle(LookedAgain()) == [], "that reason does not pass"
    started = round_started(2)
    assert worker.handle(Heard(started)) == [BeginTask(started), ReceiveModel(started)]


def test_what_a_round_asks_is_looked_at_again_when_it_is_said_again() -> None:
    """Else a coordinator could have a consented round's model trained on for a thousand epochs after a reconnect."""
    worker = session()
    worker.handle(Heard(round_started()))
    worker.handle(LinkLost())
    declined(worker.handle(Heard(round_started(training=TRAINING | {"local_epochs": 1000}))))
    assert worker.handle(ModelReceived(1)) == []


def test_a_run_that_grows_too_long_is_left() -> None:
    worker = session(max_rounds=3)
    assert isinstance(worker.handle(Heard(round_started()))[0], BeginTask)
    (left,) = worker.handle(Heard(round_started(2, rounds=4)))
    assert isinstance(left, Leave) and "4 rounds, at most 3 agreed" in left.reason


class Moment:
    """What stands against training now."""

    def __init__(self, objection: str | None = "it is noon") -> None:
        self.objection = objection

    def session(self) -> WorkerSession:
        chain = OwnChain(run=RUN, worker="b", check_signature=check)
        return WorkerSession(consent=WorkerConsent(), chain=chain, objection_now=lambda: self.objection)


def test_a_round_that_comes_at_a_wrong_hour_is_declined_and_taken_up_when_the_hour_has_come() -> None:
    moment, started = Moment(), round_started()
    worker = moment.session()
    assert declined(worker.handle(Heard(started))) == RoundDeclined(round=1, reason="it is noon")
    assert worker.stage is Stage.IDLE
    assert worker.handle(LookedAgain()) == []
    moment.objection = None
    assert worker.handle(LookedAgain())[1:] == [BeginTask(started), ReceiveModel(started)]
    assert worker.handle(LookedAgain()) == [], "it is taken up once"
    assert worker.handle(ModelReceived(1))[0] == Train(started, TrainingSettings(**TRAINING))


def test_training_does_not_begin_where_the_hour_has_passed_while_the_model_came() -> None:
    moment = Moment(None)
    worker = moment.session()
    worker.handle(Heard(round_started()))
    moment.objection = "it is six"
    assert declined(worker.handle(ModelReceived(1))).reason == "it is six"


def test_a_round_that_is_trained_on_is_finished_and_delivered_after_the_hour() -> None:
    moment = Moment(None)
    worker = moment.session()
    worker.handle(Heard(round_started()))
    worker.handle(ModelReceived(1))
    moment.objection = "it is six"
    worker.handle(LinkLost())
    assert isinstance(worker.handle(Heard(round_started()))[0], Send)
    assert offered(worker.handle(SAVED)).sha256 == SAVED.sha256


@pytest.mark.parametrize(
    "over",
    [
        LinkLost(),
        Heard(UpdateRefused(round=1, code="late", reason="closed")),
        Heard(closing(chain({})[1], None)),
    ],
)
def test_a_declined_round_that_is_over_is_not_taken_up(over: Heard | LinkLost) -> None:
    moment = Moment()
    worker = moment.session()
    worker.handle(Heard(round_started()))
    worker.handle(over)
    moment.objection = None
    assert worker.handle(LookedAgain()) == []


@pytest.mark.parametrize("training", [{"surprise": 1}, {"batch_size": 0}, {"batch_size": "8"}])
def test_training_settings_that_cannot_be_used_are_the_peers_fault(training: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        session().handle(Heard(round_started(training=TRAINING | training)))


def test_an_answer_to_nothing_is_the_peers_fault() -> None:
    with pytest.raises(RemoteProtocolError, match="answers nothing"):
        session().handle(Heard(UpdateWanted(round=1, transfer=1, offset=0)))
    with pytest.raises(RemoteProtocolError):
        session().handle(Heard(Hello(software="odd")))


def test_a_refused_update_says_why() -> None:
    worker = trained()
    worker.handle(SAVED)
    assert worker.handle(Heard(UpdateRefused(round=1, code="late", reason="too late"))) == [
        ShowNotice("round 1: the update was not taken: too late")
    ]


def test_news_are_shown() -> None:
    record = chain({"a": "1" * 64, "b": "2" * 64})[1]
    closed = closing(record, 1)
    worker = session()
    assert worker.handle(Heard(closed)) == [KeepRecord(shown(record, 1)), ShowRound(closed)]
    assert worker.handle(Heard(closed)) == [], "it is shown once, however often it is said"
    assert session().handle(Heard(RunStatus(text="waiting"))) == [ShowNotice("waiting")]
    assert session().handle(Heard(Goodbye(code="finished", reason="done"))) == [SessionEnded("finished", "done")]


def test_a_round_that_closes_before_its_model_has_come_is_waited_for_no_more() -> None:
    worker = session()
    worker.handle(Heard(round_started()))
    commands = worker.handle(Heard(UpdateRefused(round=1, code="late", reason="closed")))
    assert commands[0] == StopReceiving()
    assert worker.stage is Stage.IDLE
    assert StopReceiving() not in trained().handle(Heard(UpdateRefused(round=1, code="late", reason="closed")))


def test_what_lies_between_two_records_is_asked_for_and_kept() -> None:
    records = chain(*[{"b": digest(f"update {number}")} for number in range(1, 9)])
    worker = session()
    worker.handle(Heard(closing(records[1], 0)))
    last = closing(records[8], 0)
    assert worker.handle(Heard(last)) == [Send(RecordsWanted(after=1))]
    assert worker.handle(Heard(Records(headers=headers(records[2:6])))) == [Send(RecordsWanted(after=5))]
    rest = worker.handle(Heard(Records(headers=headers(records[6:9]))))
    assert rest[:-2] == [KeepHeader(each.header) for each in records[2:8]], "proven by the record they lead to"
    assert rest[-2:] == [KeepRecord(shown(records[8], 0)), ShowRound(last)]


def test_a_coordinator_that_does_not_show_what_lies_between_is_not_believed() -> None:
    records = chain({}, {}, {}, {})
    worker = session()
    worker.handle(Heard(closing(records[1], None)))
    worker.handle(Heard(closing(records[4], None)))
    with pytest.raises(AuditError, match="does not show the records before it"):
        worker.handle(Heard(Records(headers=[])))


def test_an_update_in_the_record_that_was_never_sent_is_seen() -> None:
    worker = trained()
    worker.handle(SAVED)
    assert KeepAcknowledged(1, SAVED.sha256) in worker.handle(Heard(UpdateAccepted(round=1, sha256=SAVED.sha256)))
    with pytest.raises(AuditError, match="update_sha256"):
        worker.handle(Heard(closing(chain({"b": digest("another")})[1], 0)))


def test_a_verdict_that_the_record_does_not_bear_out_is_seen() -> None:
    closed = closing(chain({"b": digest("mine")})[1], 0, verdict="rejected")
    with pytest.raises(AuditError, match="told was verdict"):
        session().handle(Heard(closed))


def test_a_round_that_is_started_twice_on_one_link_is_begun_once() -> None:
    """Found by the simulator: the second transfer of the same model ended the worker."""
    worker = session()
    assert len(worker.handle(Heard(round_started()))) == 2
    assert worker.handle(Heard(round_started())) == []
    worker.handle(LinkLost())
    assert worker.handle(Heard(round_started())) == [ReceiveModel(round_started())]


def test_a_refused_task_begins_again_with_its_round() -> None:
    """Found by the simulator: the coordinator died before its commit, and the round waited for this worker in vain."""
    worker = session()
    worker.handle(Heard(round_started()))
    worker.handle(Heard(UpdateRefused(round=1, code="late", reason="closed")))
    worker.handle(LinkLost())
    assert worker.handle(Heard(round_started())) == [BeginTask(round_started()), ReceiveModel(round_started())]


def test_records_that_are_answered_twice_accuse_nobody() -> None:
    """Found by the simulator: an honest coordinator was accused by the audit."""
    records = chain(*[{"b": digest(f"update {number}")} for number in range(1, 12)])
    worker = session()
    worker.handle(Heard(closing(records[1], 0)))
    for _ in range(2):
        worker.handle(Heard(closing(records[11], 0)))
    answer = Records(headers=headers(records[2:7]))
    assert worker.handle(Heard(answer))[-1] == Send(RecordsWanted(after=6))
    assert worker.handle(Heard(answer)) == []


def test_what_the_coordinator_says_it_has_is_remembered() -> None:
    """A hospital that lost its disk has trained again: what counts is the update that was stored."""
    worker = trained()
    worker.handle(SAVED)
    stored = digest("of the first training")
    assert KeepAcknowledged(1, stored) in worker.handle(Heard(UpdateAccepted(round=1, sha256=stored)))
    assert worker.handle(Heard(UpdateAccepted(round=1, sha256=stored))) == []


def test_a_record_of_another_round_than_it_is_said_to_be_is_seen() -> None:
    """Found in review: with another number the hospital's own acknowledgement was not looked up."""
    with pytest.raises(AuditError, match="round 2: the record that is shown is of round 1"):
        session().handle(Heard(closing(chain({"b": digest("mine")})[1], 0, round=2)))


@pytest.mark.parametrize("lie", [{"weight": 0.9}, {"reason": "chosen"}, {"metrics": {"accuracy": 1.0}}])
def test_what_the_person_is_told_is_what_the_record_says(lie: dict[str, Any]) -> None:
    with pytest.raises(AuditError, match=f"told was {next(iter(lie))}"):
        session().handle(Heard(closing(chain({"b": digest("mine")})[1], 0, **lie)))


def test_nothing_is_asked_for_on_account_of_a_record_that_nobody_signed() -> None:
    records = chain({}, {}, {}, {})
    worker = session()
    worker.handle(Heard(closing(records[1], None)))
    with pytest.raises(AuditError, match="signature"):
        worker.handle(Heard(closing(records[4], None, signature=b"forged")))


def test_an_acknowledgement_that_is_taken_back_is_not_insisted_on() -> None:
    worker = trained()
    worker.handle(SAVED)
    worker.handle(Heard(UpdateAccepted(round=1, sha256=SAVED.sha256)))
    refused = UpdateRefused(round=1, code="withdrawn", reason="too few are sound")
    assert worker.handle(Heard(refused))[0] == KeepWithdrawn(1)
    assert KeepRecord(shown(chain({})[1], None)) in worker.handle(Heard(closing(chain({})[1], None)))


def test_another_update_than_the_one_at_hand_is_warned_of() -> None:
    worker = trained()
    worker.handle(SAVED)
    said = worker.handle(Heard(UpdateAccepted(round=1, sha256=digest("another"))))
    assert any(isinstance(each, ShowNotice) and each.text.startswith("Warning: round 1") for each in said)
