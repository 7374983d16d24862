from typing import Any

import pytest

from fednet.config import RunSettings, WorkerName
from fednet.coordinator.round import (
    TRANSITIONS,
    Aggregate,
    AggregationFailed,
    CommitRound,
    EvaluateModel,
    Event,
    FinishRun,
    ModelDelivered,
    ModelEvaluated,
    ParkRun,
    Phase,
    RoundCommitted,
    RoundRecovered,
    Rounds,
    SendModel,
    StartRound,
    StopRequested,
    TimePassed,
    UpdatesAggregated,
    UpdateStored,
    WorkerDeclined,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    WorkerReconsidered,
    WorkerRevoked,
)

A, B, C, D, E = (WorkerName(f"client{i}") for i in range(1, 6))


def rounds(known: tuple[WorkerName, ...] = (), first: int = 1, **changes: Any) -> Rounds:
    fields: dict[str, Any] = {
        "model": "m",
        "image_size": 64,
        "classes": ("a",),
        "workers": 3,
        "quorum": 2,
        "rounds": 2,
        "deadline_s": 100.0,
        "patience_s": 50.0,
    }
    return Rounds(RunSettings(**(fields | changes)), first_round=first, known_workers=known, grace_s=10.0, now=0.0)


def play(machine: Rounds, *events: Event, now: float = 0.0) -> list[Any]:
    return [command for event in events for command in machine.handle(event, now=now)]


def started(**changes: Any) -> Rounds:
    machine = rounds(**changes)
    play(machine, WorkerJoined(A), WorkerJoined(B), WorkerJoined(C))
    return machine


def stored(*workers: WorkerName, number: int = 1) -> list[Event]:
    return [UpdateStored(worker, number) for worker in workers]


FINISHING: list[Event] = [UpdatesAggregated(), ModelEvaluated(), RoundCommitted()]


def test_the_run_starts_when_all_have_joined() -> None:
    machine = rounds()
    assert play(machine, WorkerJoined(B), WorkerJoined(A)) == []
    assert play(machine, WorkerJoined(C)) == [StartRound(1), SendModel(A, 1), SendModel(B, 1), SendModel(C, 1)]


def test_a_fresh_run_waits_for_its_workers_however_long() -> None:
    machine = rounds()
    play(machine, WorkerJoined(A), WorkerJoined(B))
    assert machine.wake_at(now=0.0) is None
    assert play(machine, TimePassed(), now=1e9) == []


def test_a_round_goes_through_its_phases_in_order() -> None:
    machine = started()
    phases = [machine.phase]
    for event in [*(ModelDelivered(w, 1) for w in (A, B, C)), *stored(A, B, C), *FINISHING]:
        play(machine, event)
        phases.append(machine.phase)
    assert list(dict.fromkeys(phases)) == [
        Phase.DISTRIBUTING,
        Phase.COLLECTING,
        Phase.AGGREGATING,
        Phase.EVALUATING,
        Phase.COMMITTING,
    ]
    assert machine.round_number == 2


def test_a_round_closes_when_every_worker_has_delivered_and_sums_in_worker_order() -> None:
    machine = started()
    assert play(machine, *stored(C, A)) == []
    assert play(machine, *stored(B)) == [Aggregate(1, (A, B, C))]
    assert play(machine, UpdatesAggregated()) == [EvaluateModel(1)]
    assert play(machine, ModelEvaluated()) == [CommitRound(1)]
    assert play(machine, RoundCommitted())[0] == StartRound(2)


def test_the_last_round_finishes_the_run() -> None:
    machine = started(rounds=1)
    assert play(machine, *stored(A, B, C), *FINISHING)[-1] == FinishRun()
    assert machine.is_over


def test_a_lost_worker_is_awaited_for_its_grace_and_no_longer() -> None:
    machine = started()
    play(machine, *stored(A, B))
    assert play(machine, WorkerLost(C), now=5.0) == []
    assert machine.wake_at(now=5.0) == 15.0
    assert play(machine, TimePassed(), now=14.9) == []
    assert play(machine, TimePassed(), now=15.0) == [Aggregate(1, (A, B))]


def test_a_worker_that_comes_back_in_time_is_sent_the_model_again_and_counts() -> None:
    machine = started()
    play(machine, *stored(A, B), WorkerLost(C), now=5.0)
    assert play(machine, WorkerJoined(C), now=8.0) == [SendModel(C, 1)]
    assert play(machine, TimePassed(), now=20.0) == []
    assert play(machine, *stored(C), now=21.0) == [Aggregate(1, (A, B, C))]


def test_a_worker_that_delivered_is_not_asked_again() -> None:
    machine = started()
    play(machine, *stored(C), WorkerLost(C))
    assert play(machine, WorkerJoined(C)) == []


def test_a_worker_that_left_is_not_awaited() -> None:
    machine = started()
    assert play(machine, *stored(A, B), WorkerLeft(C)) == [Aggregate(1, (A, B))]


def test_at_the_deadline_a_quorum_is_enough() -> None:
    machine = started()
    play(machine, *stored(A, B))
    assert machine.wake_at(now=0.0) == 100.0
    assert play(machine, TimePassed(), now=99.9) == []
    assert play(machine, TimePassed(), now=100.0) == [Aggregate(1, (A, B))]


def test_below_quorum_the_round_keeps_its_number_and_updates_and_then_parks() -> None:
    machine = started()
    play(machine, *stored(A))
    assert play(machine, TimePassed(), now=100.0) == []
    assert machine.round_number == 1
    assert machine.delivered == {A}
    assert machine.wake_at(now=100.0) == 150.0
    parked = play(machine, TimePassed(), now=150.0)
    assert len(parked) == 1 and isinstance(parked[0], ParkRun)
    assert "1 of at least 2 workers delivered" in parked[0].reason


def test_past_the_deadline_the_quorum_closes_the_round_at_once() -> None:
    machine = started()
    play(machine, *stored(A))
    play(machine, TimePassed(), now=100.0)
    assert play(machine, *stored(B), now=120.0) == [Aggregate(1, (A, B))]


def test_a_late_update_is_refused_and_enters_no_round() -> None:
    machine = started()
    play(machine, *stored(A, B, C))
    assert "too late" in str(machine.refusal(A, 1))
    play(machine, *FINISHING)
    assert "too late" in str(machine.refusal(A, 1))
    assert play(machine, UpdateStored(A, 1)) == []
    assert machine.delivered == frozenset()


def test_a_stranger_has_no_part_in_a_round() -> None:
    assert "not part of" in str(started().refusal(E, 1))


def test_an_update_counts_once_however_often_it_is_reported() -> None:
    machine = started()
    play(machine, *stored(A, A, A, B))
    assert machine.delivered == {A, B}
    assert machine.phase is Phase.DISTRIBUTING


def test_f_is_never_lowered_because_workers_went_missing() -> None:
    machine = rounds(workers=5, byzantine=1, quorum=5)
    play(machine, *(WorkerJoined(worker) for worker in (A, B, C, D, E)))
    play(machine, *stored(A, B, C, D), WorkerLost(E))
    assert play(machine, TimePassed(), now=90.0) == []
    assert isinstance(play(machine, TimePassed(), now=150.0)[0], ParkRun)


def test_a_failed_aggregation_parks_with_its_reason() -> None:
    machine = started()
    play(machine, *stored(A, B, C))
    assert play(machine, AggregationFailed("two are faulty")) == [ParkRun("two are faulty")]


@pytest.mark.parametrize("collecting", [True, False])
def test_a_stop_parks_at_once_while_waiting_or_collecting(collecting: bool) -> None:
    machine = started() if collecting else rounds()
    assert play(machine, StopRequested("stopped by SIGINT")) == [ParkRun("stopped by SIGINT")]


def test_a_stop_while_aggregating_lets_the_round_be_committed_first() -> None:
    machine = started()
    play(machine, *stored(A, B, C))
    assert play(machine, StopRequested("stopped")) == []
    assert play(machine, *FINISHING) == [EvaluateModel(1), CommitRound(1), ParkRun("stopped")]


def test_the_next_round_starts_with_a_quorum_once_nobody_is_awaited() -> None:
    machine = started()
    play(machine, *stored(A, B, C), WorkerLost(C), *FINISHING)
    assert machine.phase is Phase.WAITING
    assert play(machine, TimePassed(), now=10.0)[0] == StartRound(2)


def test_a_resumed_run_waits_for_the_workers_it_had_and_then_goes_on_with_a_quorum() -> None:
    machine = rounds(known=(A, B, C), first=2)
    assert play(machine, WorkerJoined(A), WorkerJoined(B), now=1.0) == []
    assert machine.wake_at(now=1.0) == 10.0
    assert play(machine, TimePassed(), now=10.0)[0] == StartRound(2)


def test_a_resumed_run_without_a_quorum_parks_after_its_patience() -> None:
    machine = rounds(known=(A, B, C), first=2)
    assert isinstance(play(machine, WorkerJoined(A), TimePassed(), now=50.0)[0], ParkRun)


def test_a_full_cohort_admits_nobody_else_but_those_in_it() -> None:
    machine = started()
    assert not machine.admits(D, now=0.0)
    assert machine.admits(A, now=0.0)
    play(machine, WorkerLost(A), now=0.0)
    assert not machine.admits(D, now=5.0)
    assert machine.admits(D, now=11.0)


def test_every_phase_but_the_last_two_can_be_left() -> None:
    assert {phase for phase, _ in TRANSITIONS} == set(Phase) - {Phase.FINISHED, Phase.PARKED}


def test_between_rounds_nobody_has_delivered() -> None:
    """Found by the simulator: a worker that came back then was told that an update of the next round is stored."""
    machine = started()
    play(machine, *stored(A, B, C), WorkerLost(A), WorkerLost(B), UpdatesAggregated(), ModelEvaluated())
    play(machine, RoundCommitted(), now=1.0)
    assert machine.phase is Phase.WAITING
    assert (machine.delivered, machine.cohort) == (frozenset(), frozenset())


def test_a_round_goes_on_with_what_an_earlier_process_left() -> None:
    machine = rounds(first=2, known=(A, B, C))
    recovered = RoundRecovered(frozenset({A, B, C}), frozenset({B}))
    assert play(machine, recovered) == [StartRound(2)]
    assert machine.delivered == {B}
    assert play(machine, WorkerJoined(B)) == [], "its update is here"
    assert play(machine, WorkerJoined(A)) == [SendModel(A, 2)]
    assert play(machine, *stored(A, number=2)) == []
    assert play(machine, TimePassed(), now=10.0) == [Aggregate(2, (A, B))], "C is not awaited beyond its grace"


def test_a_recovered_round_that_lacks_nobody_is_aggregated_at_once() -> None:
    machine = rounds(first=1)
    everybody = frozenset({A, B, C})
    assert play(machine, RoundRecovered(everybody, everybody)) == [StartRound(1), Aggregate(1, (A, B, C))]


def test_a_recovered_round_has_its_whole_deadline_again() -> None:
    machine = rounds(first=1)
    play(machine, RoundRecovered(frozenset({A, B, C}), frozenset()), now=1000.0)
    assert machine.remaining_s(now=1000.0) == 100.0


def test_a_run_whose_rounds_are_done_begins_finished() -> None:
    machine = rounds(first=3, known=(A,))
    assert machine.is_over
    assert machine.awaited(now=0.0) == {A}
    assert machine.wake_at(now=0.0) == 10.0, "then it is awaited no more"
    assert play(machine, WorkerJoined(A)) == []
    assert machine.awaited(now=0.0) == frozenset()


def test_nobody_waits_for_a_worker_that_declines_the_round() -> None:
    machine = started()
    play(machine, *stored(A, B))
    assert machine.missing(now=0.0) == (C,)
    assert play(machine, WorkerDeclined(C, 1, "at noon")) == [Aggregate(1, (A, B))]
    assert machine.declined == {C: "at noon"}
    play(machine, UpdatesAggregated(), ModelEvaluated(), RoundCommitted())
    assert machine.declined == {}
    assert C in machine.cohort, "it is asked in the next round"


def test_below_quorum_a_declined_round_waits_for_who_may_reconsider_and_says_who_declined() -> None:
    machine = started()
    play(machine, *stored(A), WorkerDeclined(B, 1, "at noon"), WorkerDeclined(C, 1, "too hot"))
    assert machine.phase is Phase.COLLECTING
    play(machine, WorkerReconsidered(B, 1))
    assert (machine.missing(now=0.0), machine.declined) == ((B,), {C: "too hot"})
    (parked,) = play(machine, TimePassed(), now=150.0)
    assert parked == ParkRun(
        "round 1: 1 of at least 2 workers delivered within deadline and patience; client3 declined (too hot)"
    )


def test_who_reconsiders_is_counted() -> None:
    machine = started()
    play(machine, WorkerDeclined(C, 1, "at noon"), *stored(A), WorkerReconsidered(C, 1), *stored(C))
    assert machine.delivered == {A, C}
    assert (machine.declined, machine.missing(now=0.0)) == ({}, (B,))


def test_a_worker_that_comes_back_after_declining_is_asked_again() -> None:
    machine = started()
    play(machine, WorkerDeclined(C, 1, "at noon"), WorkerLost(C))
    assert machine.missing(now=0.0) == (A, B), "meanwhile nobody waits for it"
    assert play(machine, WorkerJoined(C)) == [SendModel(C, 1)]
    assert machine.declined == {}


@pytest.mark.parametrize("event", [WorkerDeclined(D, 1, "odd"), WorkerDeclined(A, 2, "odd"), WorkerReconsidered(A, 2)])
def test_declining_what_was_not_asked_changes_nothing(event: Event) -> None:
    machine = started()
    play(machine, WorkerDeclined(B, 1, "at noon"), event)
    assert machine.declined == {B: "at noon"}


def test_what_is_delivered_cannot_be_declined_any_more() -> None:
    machine = started()
    play(machine, *stored(A), WorkerDeclined(A, 1, "odd"))
    assert machine.delivered == {A}
    assert machine.declined == {}


def test_a_round_that_some_decline_is_collected_once_the_others_have_the_model() -> None:
    machine = started()
    play(machine, WorkerDeclined(C, 1, "at noon"), ModelDelivered(A, 1), ModelDelivered(B, 1))
    assert machine.phase is Phase.COLLECTING


def revoked(worker: WorkerName) -> WorkerRevoked:
    return WorkerRevoked(worker, "key lost")


def test_nobody_waits_for_a_revoked_worker() -> None:
    machine = started()
    play(machine, *stored(A, B))
    assert machine.missing(now=1.0) == (C,)
    assert play(machine, revoked(C)) == [Aggregate(1, (A, B))]
    assert machine.cohort == {A, B}


def test_a_revoked_workers_update_does_not_count_though_it_was_durable() -> None:
    machine = started()
    play(machine, *stored(A, C), revoked(C))
    assert machine.delivered == {A}
    assert play(machine, *stored(B)) == [Aggregate(1, (A, B))]
    assert machine.refusal(C, 1) is not None


def test_a_revoked_worker_counts_for_no_quorum() -> None:
    machine = started(quorum=3)
    play(machine, *stored(A, B), revoked(B))
    assert play(machine, *stored(C)) == []
    assert play(machine, TimePassed(), now=151.0) == [
        ParkRun("round 1: 2 of at least 3 workers delivered within deadline and patience")
    ]


@pytest.mark.parametrize(
    ("before", "after"), [([], UpdatesAggregated()), ([UpdatesAggregated()], ModelEvaluated())], ids=["sum", "model"]
)
def test_what_a_revoked_update_is_in_is_aggregated_again(before: list[Event], after: Event) -> None:
    machine = started()
    play(machine, *stored(A, B, C), *before)
    assert play(machine, revoked(B)) == []
    assert play(machine, after) == [Aggregate(1, (A, C))]
    assert play(machine, UpdatesAggregated()) == [EvaluateModel(1)]
    assert play(machine, ModelEvaluated()) == [CommitRound(1)]


def test_below_quorum_without_a_revoked_update_the_round_collects_again() -> None:
    machine = started(quorum=3)
    play(machine, *stored(A, B, C), revoked(B))
    assert play(machine, UpdatesAggregated()) == []
    assert machine.phase is Phase.COLLECTING
    assert play(machine, WorkerJoined(B)) == [SendModel(B, 1)], "with a new certificate"
    assert play(machine, *stored(B)) == [Aggregate(1, (A, B, C))]


def test_who_came_while_a_spoilt_round_was_aggregated_is_asked_when_it_collects_again() -> None:
    machine = started(quorum=3)
    play(machine, *stored(A, B, C), revoked(B), WorkerJoined(B))
    assert play(machine, UpdatesAggregated()) == [SendModel(B, 1)]
    assert machine.refusal(B, 1) is None
    assert play(machine, *stored(B)) == [Aggregate(1, (A, B, C))]


def test_somebody_revoked_who_is_in_no_aggregation_disturbs_none() -> None:
    machine = started()
    play(machine, WorkerLeft(C), *stored(A, B), revoked(C))
    assert play(machine, UpdatesAggregated()) == [EvaluateModel(1)]


def test_a_committed_round_stands_and_the_next_goes_without_the_revoked() -> None:
    machine = started()
    play(machine, *stored(A, B, C), UpdatesAggregated(), ModelEvaluated(), revoked(C))
    assert play(machine, RoundCommitted()) == [StartRound(2), SendModel(A, 2), SendModel(B, 2)]


def test_a_run_that_waits_for_the_revoked_goes_on_without_it() -> None:
    machine = rounds(known=(A, B, C), first=2)
    play(machine, WorkerJoined(A), WorkerJoined(B))
    assert machine.awaited(now=0.0) == {C}
    assert play(machine, revoked(C)) == [StartRound(2), SendModel(A, 2), SendModel(B, 2)]
