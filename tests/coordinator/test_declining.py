"""Hospitals that decline: the whole run, or rounds; the others go on, and both ends say who declined what, and why."""

import asyncio
import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.config import TrainingSettings, WorkerName
from fednet.coordinator.declining import declined_in, declined_text, plain_reason
from fednet.coordinator.waiting import waiting_text
from fednet.errors import Refused, RunParked
from fednet.worker import service as worker_service
from fednet.worker.consent import Circumstances, WorkerConsent
from fednet.worker.hours import window_from
from tests.federation import Federation, Notes, settings

A, B, C = (WorkerName(name) for name in ("a", "b", "c"))
NIGHT = WorkerConsent(hours=(window_from("20:00-06:00"),))


class Clock:
    """A hospital's clock, which the test sets; memory is as it likes."""

    def __init__(self, hour: int = 12, **found: Any) -> None:
        self.hour = hour
        self.found = found

    def __call__(self, device: torch.device) -> Circumstances:
        return Circumstances(local_time=datetime(2026, 6, 1, self.hour, tzinfo=UTC), **self.found)


def test_a_reason_is_one_harmless_line() -> None:
    assert plain_reason("too\nmany\x1b[31m rounds") == "too many [31m rounds"
    assert len(plain_reason("x" * 10_000)) == 500
    assert plain_reason(" \n") == "no reason was given"


def test_who_was_asked_and_declined_stands_in_the_round() -> None:
    found = declined_in([A, B, C], [B], this_round={A: "noon", B: "was taken back"}, the_run={C: "model"})
    assert found == {A: "noon", C: "model"}
    assert declined_in([A], [], this_round={}, the_run={C: "of another cohort"}) == {}
    assert declined_text(found) == "a declined: noon; c declined: model"
    assert declined_text({}) == ""


def rounds_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "run" / "history.json").read_text())["rounds"]
    return found


@pytest.mark.parametrize(
    ("consent", "clock", "reason"),
    [
        (NIGHT, Clock(12), "it is Mon 12:00 here, training begins only within 20:00-06:00"),
        (WorkerConsent(min_free_memory_gib=4.0), Clock(free_memory_bytes=2**30), "1.0 GiB of memory are free"),
        (WorkerConsent(max_memory_share=0.5), Clock(own_memory_share=0.75), "holds 75% of its machine's memory"),
        (WorkerConsent(min_free_gpu_memory_gib=1.0), Clock(), "GPU memory is free cannot be told"),
    ],
)
async def test_a_hospital_that_declines_its_rounds_stays_and_the_others_go_on(
    tmp_path: Path, consent: WorkerConsent, clock: Clock, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    federation, notes = Federation(tmp_path), Notes()
    with caplog.at_level(logging.WARNING):
        await federation.run(
            federation.worker(1),
            federation.worker(2, consent=consent, look_around=clock, notes=notes),
            federation.worker(3),
        )
    for document in rounds_of(tmp_path):
        assert [each["worker"] for each in document["updates"]] == ["client1", "client3"]
        assert document["absent"] == [], "who declines is not absent, let alone slow"
        assert reason in document["declined"]["client2"]
    assert f"round 2 declined: {document['declined']['client2']}" in notes.notices
    assert [closed.verdict for closed in notes.closed] == ["absent", "absent"]
    assert any("client2 declines round 1" in record.message and reason in record.message for record in caplog.records)


async def test_rounds_of_a_schedule_that_goes_beyond_consent_are_declined_one_by_one(tmp_path: Path) -> None:
    """The least rate agreed to is 0.05: the warm-up's rounds are below it."""
    training = TrainingSettings(batch_size=8, learning_rate=0.06)
    federation = Federation(tmp_path, run_settings=settings(rounds=3, warmup_rounds=2, training=training))
    careful = federation.worker(2, consent=WorkerConsent(min_learning_rate=0.05))
    await federation.run(federation.worker(1), careful, federation.worker(3))
    assert ["client2" in document.get("declined", {}) for document in rounds_of(tmp_path)] == [True, True, False]


async def test_a_round_is_taken_up_when_the_hour_comes_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_service, "LOOK_AGAIN_S", 0.01)
    federation, clock = Federation(tmp_path, run_settings=settings(quorum=3)), Clock(12)

    class Waiting(Notes):
        def notice(self, text: str) -> None:
            super().notice(text)
            if text.startswith("round 1 declined"):
                assert "it is Mon 12:00" in text
                asyncio.get_running_loop().call_later(0.1, setattr, clock, "hour", 23)

    notes = Waiting()
    late = federation.worker(2, consent=NIGHT, look_around=clock, notes=notes)
    await federation.run(federation.worker(1), late, federation.worker(3))
    assert "round 1 is taken up after all" in notes.notices
    for document in rounds_of(tmp_path):
        assert len(document["updates"]) == 3
        assert "declined" not in document


async def test_a_hospital_that_declines_the_run_is_named_where_the_run_waits_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path)
    running = asyncio.create_task(federation.coordinator.run(federation))
    for _ in range(2):
        careful = federation.worker(1, consent=WorkerConsent(max_rounds=1))
        with pytest.raises(Refused, match=r"^the run has 2 rounds, at most 1 agreed") as refused:
            await careful.run()
        assert (refused.value.code, refused.value.exit_code) == ("declined", 2)
    desk = federation.coordinator._desk
    while not desk.run_declined_by:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    said = waiting_text(federation.coordinator._rounds, federation.settings, desk)
    assert "client1 declined: the run has 2 rounds" in said
    willing = asyncio.create_task(federation.worker(1).run())
    while not federation.coordinator._rounds.connected:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    assert desk.run_declined_by == {}, "it has changed its mind"
    federation.coordinator.stop("done")
    with pytest.raises(RunParked):
        await running
    willing.cancel()
    await asyncio.gather(willing, return_exceptions=True)
    federation.store.close()
    assert [record.message.count("client1 declines the run") for record in caplog.records].count(1) == 1
