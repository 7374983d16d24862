import asyncio
import functools
import itertools
import json
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.aggregation.strategy import Trust
from fednet.compression.forms import FEATURES
from fednet.config import TrainingSettings, WorkerName
from fednet.coordinator.desk import Desk
from fednet.coordinator.record import Retention
from fednet.errors import AuditError, ConnectionLost, DiskFull, ProcessLost, Refused, RunParked, TrainingError
from fednet.protocol import limits
from fednet.protocol.frames import VERSION
from fednet.protocol.messages import Goodbye, Hello, ModelWanted, Ready, RoundClosed, RunStatus, Welcome
from fednet.security.identity import identity_of
from fednet.simulate.attacks.tamper import tamper_named
from fednet.storage.history import Standing, read_history
from fednet.tensors import parameters_of
from fednet.transport.link import Link
from fednet.worker import service as worker_service
from fednet.worker.consent import WorkerConsent
from fednet.worker.service import Worker
from fednet.worker.workshop import Workshop
from tests.federation import Federation, Notes, judge, manifest, settings
from tests.worker.fakes import MemoryOwnModel, TinyData


@pytest.fixture(autouse=True)
def workers_come_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_service, "FIRST_RETRY_S", 0.01)


def cutting(federation: Federation, name: str, made: Workshop) -> Workshop:
    """Cut a worker's link whenever its training is done."""
    work = made.work

    def and_cut(*arguments: Any) -> object:
        result = work(*arguments)
        link = federation.links[name][-1]
        link._loop.call_soon_threadsafe(link.abort, "cut by a test")
        return result

    made.work = and_cut  # type: ignore[method-assign, assignment]  # cuts the link when training is done
    return made


async def test_a_run_goes_to_its_end_and_learns(tmp_path: Path) -> None:
    training = TrainingSettings(local_epochs=4, batch_size=8, learning_rate=0.05)
    federation = Federation(tmp_path, run_settings=settings(rounds=4, training=training))
    notes = Notes()
    await federation.run(federation.worker(1, notes=notes), federation.worker(2), federation.worker(3))
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    losses = [each["test"]["loss"] for each in history["rounds"]]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert [closed.round for closed in notes.closed] == [1, 2, 3, 4]
    assert {closed.verdict for closed in notes.closed} == {"selected"}
    assert [text for text in notes.notices if "the update" in text] == [
        f"round {number}: the update arrived and is stored" for number in (1, 2, 3, 4)
    ]
    for name in ("final.pth", "final.card.md", "best.pth", "best.card.json", "checkpoints/round-0004.pth"):
        assert (tmp_path / "run" / name).exists()
    assert not (tmp_path / "run" / "spool" / "round-0004").exists()


async def test_best_is_chosen_by_validation_alone(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=3))
    marks = iter([(0.5, 0.1), (0.9, 0.2), (0.7, 0.99)])

    def marked(flat: torch.Tensor) -> dict[str, dict[str, float]]:
        validation, test = next(marks)
        return {
            "validation": {"macro_f1": validation, "loss": 1.0, "accuracy": validation},
            "test": {"macro_f1": test, "loss": 1.0, "accuracy": test},
        }

    federation.coordinator._judge = marked
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    run = tmp_path / "run"
    assert json.loads((run / "history.json").read_text())["best_round"] == 2
    assert (run / "best.pth").read_bytes() == (run / "checkpoints" / "round-0002.pth").read_bytes()


async def test_a_step_that_makes_validation_clearly_worse_is_refused(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=3, guard=0.1))
    marks = iter([(0.8, 0.5), (0.6, 0.9), (0.75, 0.9)])

    def marked(flat: torch.Tensor) -> dict[str, dict[str, float]]:
        accuracy, loss = next(marks)
        metrics = {"macro_f1": accuracy, "loss": loss, "accuracy": accuracy}
        return {"validation": metrics, "test": metrics}

    federation.coordinator._judge = marked
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    first, second, third = federation.notes.documents
    assert second["model_sha256"] == first["model_sha256"] != third["model_sha256"]
    assert second["validation"]["accuracy"] == 0.8
    assert second["refused"]["validation"]["accuracy"] == 0.6
    assert "refused" not in third
    assert any("would fall from 0.800 to 0.600" in text for text in federation.notes.notices)


async def test_a_run_without_a_better_validation_ends_early_and_is_finished(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=9, early_stop=2))
    marks = iter([0.5, 0.7, 0.6, 0.7])

    def marked(flat: torch.Tensor) -> dict[str, dict[str, float]]:
        metrics = {"macro_f1": (mark := next(marks)), "loss": 1.0, "accuracy": mark}
        return {"validation": metrics, "test": metrics}

    federation.coordinator._judge = marked
    notes = Notes()
    await federation.run(federation.worker(1, notes=notes), federation.worker(2), federation.worker(3))
    run = tmp_path / "run"
    assert [document["round"] for document in federation.notes.documents] == [1, 2, 3, 4]
    assert (run / "final.pth").read_bytes() == (run / "checkpoints" / "round-0004.pth").read_bytes()
    assert read_history(run).standing is Standing.FINISHED
    again = Federation(tmp_path, run_settings=settings(rounds=9, early_stop=2))
    assert again.coordinator._rounds.is_over
    again.store.close()


@pytest.mark.parametrize("attack", ["sign-flip", "nan"])
async def test_a_malicious_worker_is_rejected_in_every_round_and_told_why(tmp_path: Path, attack: str) -> None:
    federation = Federation(tmp_path, run_settings=settings(workers=5, byzantine=1, quorum=5))
    notes = Notes()
    liar = federation.worker(5, notes=notes, tamper=tamper_named(attack, seed=0))
    await federation.run(liar, *(federation.worker(number) for number in (1, 2, 3, 4)))
    assert [closed.verdict for closed in notes.closed] == ["rejected", "rejected"]
    assert all("rejected" in closed.reason for closed in notes.closed)
    for document in federation.notes.documents:
        assert [entry["worker"] for entry in document["updates"] if not entry["selected"]] == ["client5"]


async def test_a_round_is_explained_in_its_record(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(workers=5, byzantine=1, quorum=5, rounds=1))
    liar = federation.worker(5, tamper=tamper_named("sign-flip", seed=0))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3, 4)), liar)
    document = json.loads((tmp_path / "run" / "history.json").read_text())["rounds"][0]
    found = document["aggregation"]
    assert found["scored"] == [f"client{number}" for number in (1, 2, 3, 4, 5)]
    assert [len(row) for row in found["squared_distances"]] == [5] * 5
    assert document["updates"][4]["score"] > found["cut"]
    assert document["updates"][4]["cosine"] < 0 < document["updates"][0]["cosine"]


async def test_a_worker_that_is_always_rejected_is_warned_of(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(workers=5, byzantine=1, quorum=5, rounds=5))
    liar = federation.worker(5, tamper=tamper_named("sign-flip", seed=0))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3, 4)), liar)
    warnings = [text for text in federation.notes.notices if text.startswith("Warning")]
    assert len(warnings) == 1
    assert "client5 was rejected in 5 of its last 5 rounds" in warnings[0]
    standings = json.loads((tmp_path / "run" / "history.json").read_text())["standings"]
    assert {each["worker"]: each["rejected"] for each in standings}["client5"] == 5


async def test_a_suspect_is_quarantined_if_the_operator_says_so(tmp_path: Path) -> None:
    changed = settings(workers=5, byzantine=1, quorum=5, rounds=5, reputation_window=3, quarantine=2)
    federation = Federation(tmp_path, run_settings=changed)
    notes = Notes()
    liar = federation.worker(5, notes=notes, tamper=tamper_named("sign-flip", seed=0))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3, 4)), liar)
    assert ["quarantined, after 3 rejections in 3 rounds" in closed.reason for closed in notes.closed] == [
        False,
        False,
        False,
        True,
        True,
    ]
    last = federation.notes.documents[-1]
    assert last["byzantine"] == 0, "four are too few for f = 1"
    assert "client5" not in last["aggregation"]["scored"]
    assert last["updates"][4]["quarantined"]
    standings = json.loads((tmp_path / "run" / "history.json").read_text())["standings"]
    assert [(each["rejected"], each["lately"]) for each in standings][-1] == (5, 3), "quarantine is no evidence"


async def test_a_hospital_that_validation_misses_is_not_called_faulty(tmp_path: Path) -> None:
    changed = settings(workers=5, byzantine=1, quorum=5, rounds=3, reputation_window=2)
    federation = Federation(tmp_path, run_settings=changed)
    calls = itertools.count()

    def judged(flat: torch.Tensor) -> dict[str, dict[str, float]]:
        metrics = {"macro_f1": 0.5, "loss": 10.0 - next(calls), "accuracy": 0.5}  # each further model is better
        return {"validation": metrics, "test": metrics}

    federation.coordinator._judge = judged
    odd = federation.worker(5, tamper=tamper_named("sign-flip", seed=0))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3, 4)), odd)
    warnings = [text for text in federation.notes.notices if text.startswith("Warning")]
    assert "client5 was rejected in 2 of its last 2 rounds" in warnings[0]
    assert "validation would improve with its update" in warnings[-1]
    assert "--pre nnm" in warnings[-1]


async def test_a_run_of_any_recipe_withstands_a_sign_flip(tmp_path: Path) -> None:
    changed = settings(workers=5, byzantine=1, quorum=5, aggregator="trimmed-mean", pre=("arc", "nnm"))
    federation = Federation(tmp_path, run_settings=changed)
    liar = federation.worker(5, tamper=tamper_named("sign-flip", seed=0))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3, 4)), liar)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert history["settings"]["pre"] == ["arc", "nnm"]
    weights = {each["worker"]: each["weight"] for each in history["rounds"][0]["updates"]}
    assert weights["client5"] < min(weights[f"client{number}"] for number in (1, 2, 3, 4))


async def test_a_root_of_trust_chooses_the_tournaments_winner(tmp_path: Path) -> None:
    federation = Federation(
        tmp_path, run_settings=settings(workers=5, byzantine=1, quorum=5, rounds=1, aggregator="tournament")
    )
    asked = []

    def trust_in(base: torch.Tensor, round_number: int) -> Trust:
        asked.append(round_number)
        update = torch.ones(manifest().parameter_count)
        return Trust(
            update=update,
            loss=lambda step, buffers: float(step.norm()),
            gradient=lambda step, buffers: step / step.norm(),
        )

    federation.coordinator._trust_in = trust_in
    await federation.run(*(federation.worker(number) for number in (1, 2, 3, 4, 5)))
    document = json.loads((tmp_path / "run" / "history.json").read_text())["rounds"][0]
    assert "won the tournament" in document["aggregation"]["note"]
    assert asked == [1]


async def test_more_liars_than_f_park_the_run_and_are_named(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(workers=5, byzantine=1, quorum=5))
    liars = [federation.worker(number, tamper=tamper_named("nan", seed=0)) for number in (4, 5)]
    with pytest.raises(RunParked, match="client4, client5"):
        await federation.run(*liars, *(federation.worker(number) for number in (1, 2, 3)))


async def test_broken_links_change_nothing_and_train_nothing_twice(tmp_path: Path) -> None:
    undisturbed = Federation(tmp_path / "a")
    await undisturbed.run(*(undisturbed.worker(number) for number in (1, 2, 3)))

    federation = Federation(tmp_path / "b")
    own = MemoryOwnModel()

    def cut_when_trained(made: Workshop) -> Workshop:
        return cutting(federation, "client2", made)

    flaky = federation.worker(2, own=own, workshop=cut_when_trained)
    await federation.run(federation.worker(1), flaky, federation.worker(3))
    assert len(federation.links["client2"]) == 3
    assert own.writes == 2
    assert federation.model() == undisturbed.model()


@pytest.mark.parametrize(("compress", "compress_model"), [("zstd", "zstd"), ("int8", "none"), ("bf16+zstd", "zstd")])
async def test_a_run_with_compressed_transfers_learns_and_breaks_change_nothing(
    tmp_path: Path, compress: str, compress_model: str
) -> None:
    changed = settings(rounds=3, compress=compress, compress_model=compress_model)
    undisturbed = Federation(tmp_path / "a", run_settings=changed)
    await undisturbed.run(*(undisturbed.worker(number) for number in (1, 2, 3)))
    federation = Federation(tmp_path / "b", run_settings=changed)

    def cut_when_trained(made: Workshop) -> Workshop:
        return cutting(federation, "client2", made)

    own = MemoryOwnModel()
    flaky = federation.worker(2, own=own, workshop=cut_when_trained)
    await federation.run(federation.worker(1), flaky, federation.worker(3))
    assert len(federation.links["client2"]) > 1
    assert federation.model() == undisturbed.model()
    plain = Federation(tmp_path / "c", run_settings=settings(rounds=3))
    await plain.run(*(plain.worker(number) for number in (1, 2, 3)))
    assert (federation.model() == plain.model()) is (compress == "zstd"), "what is lossless changes no bit"


async def test_a_process_that_dies_after_rounding_sends_the_same_bytes_again(tmp_path: Path) -> None:
    changed = settings(rounds=3, compress="int8")
    undisturbed = Federation(tmp_path / "a", run_settings=changed)
    await undisturbed.run(*(undisturbed.worker(number) for number in (1, 2, 3)))

    federation = Federation(tmp_path / "b", run_settings=changed)
    own, died = MemoryOwnModel(), asyncio.Event()

    def dying(made: Workshop) -> Workshop:
        work = made.work

        def and_die(*arguments: Any) -> object:
            result = work(*arguments)
            if arguments[0].round == 2:
                federation.links["client2"][-1]._loop.call_soon_threadsafe(died.set)
                raise TrainingError("killed by a test")
            return result

        made.work = and_die  # type: ignore[method-assign, assignment]  # dies between saving and sending
        return made

    async def vanish(code: str, reason: str) -> None:
        federation.links["client2"][-1].abort("the dead say no goodbye")

    async def twice() -> None:
        mortal = federation.worker(2, own=own, workshop=dying)
        mortal._say_goodbye = vanish  # type: ignore[method-assign]  # dies as a process does
        with pytest.raises(TrainingError):
            await mortal.run()
        await federation.worker(2, own=own).run()

    task = asyncio.create_task(twice())
    await federation.run(federation.worker(1), federation.worker(3))
    await task
    assert died.is_set()
    assert federation.model() == undisturbed.model()


async def test_a_disk_too_small_for_a_round_ends_the_run_before_anybody_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=2))
    own = MemoryOwnModel()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=100))
    with pytest.raises(DiskFull, match=r"0 MB free, round 1 takes .* Free some disk space, then --resume"):
        await federation.run(*(federation.worker(number, own=own) for number in (1, 2, 3)))
    assert own.writes == 0

    monkeypatch.undo()
    again = Federation(tmp_path)
    await again.run(*(again.worker(number) for number in (1, 2, 3)))
    assert len(again.notes.documents) == 2


async def test_a_link_that_breaks_while_an_update_is_made_durable_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found in review: the re-offered update was looked for in a file that the first attempt had removed."""
    federation = Federation(tmp_path, run_settings=settings(rounds=2, compress="int8"))
    decoded = Desk._decoded
    cut: list[Link] = []

    def slow_once(desk: Desk, received: Path, nbytes: int) -> Path:
        if received.name == "client2.update" and not cut:
            link = federation.links["client2"][-1]
            cut.append(link)
            link._loop.call_soon_threadsafe(link.abort, "cut by a test")
            time.sleep(0.3)
        return decoded(desk, received, nbytes)

    monkeypatch.setattr(Desk, "_decoded", slow_once)
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    assert len(federation.links["client2"]) == 2
    assert [len(document["updates"]) for document in federation.notes.documents] == [3, 3]


async def test_a_peer_that_does_not_read_is_dropped_and_the_run_goes_on(tmp_path: Path) -> None:
    """Found in review: its full queue raised in whoever had the next thing to say, the run itself."""
    federation = Federation(tmp_path, run_settings=settings(workers=4, quorum=3, rounds=2), grace_s=0.2)
    serving = asyncio.create_task(federation.coordinator.run(federation))
    link = await await_joined(federation, "client4")
    assert isinstance(await link.receive(), RunStatus), "it is counted: three more are waited for"
    (session,) = federation.coordinator.reception.sessions.values()
    session.link._writing_paused = True
    for _ in range(limits.MAX_QUEUED_MESSAGES - len(session.link._connection._control)):
        session.link.send(RunStatus(text="what it does not read"))
    assert not session.link.has_failed, "the next message is one too many"

    working = [asyncio.create_task(federation.worker(number).run()) for number in (1, 2, 3)]
    async with asyncio.timeout(60):
        await asyncio.gather(serving, *working)
    federation.store.close()
    assert [len(document["updates"]) for document in federation.notes.documents] == [3, 3]
    link.abort()


async def await_joined(federation: Federation, name: str) -> Link:
    """Be a worker that is ready for rounds, and does nothing."""
    link = await federation.connect(name)
    link.send(Hello(software="test", features=list(FEATURES)))
    welcome = await link.receive()
    assert isinstance(welcome, Welcome)
    link.send(Ready(manifest=welcome.manifest, samples=1, device="cpu"))
    return link


async def test_it_is_known_when_a_worker_was_heard_last_and_until_when_its_certificate_is_good(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    serving = asyncio.create_task(federation.coordinator.run(federation))
    link = await await_joined(federation, "client1")
    async with asyncio.timeout(20):
        while "client1" not in federation.coordinator._desk.views:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    now = datetime.now(UTC)
    federation.coordinator.reception.show_signs_of_life(now)
    view = federation.coordinator._desk.views[WorkerName("client1")]
    assert view.last_seen is not None and timedelta() <= now - view.last_seen < timedelta(seconds=10)
    shown = identity_of(federation.certificate("client1"))
    assert view.certificate_expires == shown.not_after
    federation.coordinator.stop("test")
    with pytest.raises(RunParked):
        await serving
    link.abort()
    federation.store.close()


async def test_a_goodbye_of_a_worker_that_comes_back_does_not_end_its_part(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    serving = asyncio.create_task(federation.coordinator.run(federation))
    for code, expected in (("too-slow", True), ("left", False)):
        link = await await_joined(federation, "client1")
        await asyncio.sleep(0.05)
        await link.close(code, "test")
        await asyncio.sleep(0.05)
        assert ("client1" in federation.coordinator._rounds._lost) is expected
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    federation.store.close()


async def test_a_worker_that_cannot_read_the_runs_form_is_told_to_upgrade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_service, "FEATURES", ("fp16",))
    federation = Federation(tmp_path, run_settings=settings(compress="int8+zstd"))
    serving = asyncio.create_task(federation.coordinator.run(federation))
    with pytest.raises(Refused, match="need int8, zstd: upgrade the worker"):
        await federation.worker(1).run()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    federation.store.close()


@pytest.mark.parametrize(
    ("oldest", "newest", "which"), [(VERSION + 1, VERSION + 2, "coordinator"), (0, VERSION - 1, "worker")]
)
async def test_peers_without_a_common_version_part_and_say_which_to_upgrade(
    tmp_path: Path, oldest: int, newest: int, which: str
) -> None:
    federation = Federation(tmp_path)
    serving = asyncio.create_task(federation.coordinator.run(federation))
    link = await federation.connect("client1")
    link.send(Hello(software="fednet of another time", newest_version=newest, oldest_version=oldest))
    answer = await link.receive()
    assert isinstance(answer, Goodbye)
    assert (answer.code, f"upgrade the {which}" in answer.reason) == ("version", True)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    federation.store.close()


async def test_a_newer_worker_that_speaks_our_version_too_is_welcome(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    serving = asyncio.create_task(federation.coordinator.run(federation))
    link = await federation.connect("client1")
    link.send(Hello(software="fednet 9", newest_version=9, features=["zstd", "telepathy"]))
    assert isinstance(await link.receive(), Welcome)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    federation.store.close()


async def test_a_resumed_run_gives_the_model_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Federation(tmp_path / "a", run_settings=settings(rounds=3))
    await whole.run(*(whole.worker(number) for number in (1, 2, 3)))

    first = Federation(tmp_path / "b", run_settings=settings(rounds=3))
    notes = Notes()

    def stop_after_two(closed: RoundClosed) -> None:
        if closed.round == 2:
            first.coordinator.stop("stopped by a test")

    notes.round_closed = stop_after_two  # type: ignore[method-assign]  # stops the run between rounds
    with pytest.raises(RunParked, match="stopped by a test"):
        await first.run(first.worker(1, notes=notes), first.worker(2), first.worker(3))
    second = Federation(tmp_path / "b", run_settings=settings(rounds=3))
    await second.run(*(second.worker(number) for number in (1, 2, 3)))
    assert [document["round"] for document in second.notes.documents] == [3]
    assert second.model() == whole.model()


async def test_a_run_goes_on_with_a_quorum_when_a_site_is_gone(tmp_path: Path) -> None:
    federation = Federation(tmp_path, grace_s=0.1)
    broken = federation.worker(3, data=TinyData(poison=float("nan")))
    failing = asyncio.create_task(broken.run())
    await federation.run(federation.worker(1), federation.worker(2))
    with pytest.raises(TrainingError):
        await failing
    assert [len(document["updates"]) for document in federation.notes.documents] == [2, 2]


async def test_a_second_worker_of_the_same_name_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    first, impostor = federation.worker(1), federation.worker(1)
    running = asyncio.create_task(federation.run(first, federation.worker(2), federation.worker(3)))
    await federation.is_open.wait()
    while "client1" not in federation.coordinator.reception.sessions:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    with pytest.raises(Refused, match="connected already"):
        await impostor.run()
    await running
    assert len(federation.notes.documents) == 2


async def test_a_worker_too_many_is_refused(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    fourth = federation.worker(4)
    running = asyncio.create_task(federation.run(*(federation.worker(number) for number in (1, 2, 3))))
    await federation.is_open.wait()
    while len(federation.coordinator._rounds.connected) < 3:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    with pytest.raises(Refused, match="has its 3 workers"):
        await fourth.run()
    await running


async def test_a_worker_with_another_model_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path)

    def another(made: Workshop) -> Workshop:
        made.manifest = type(made.manifest)(made.manifest.specs[:-1])
        return made

    odd = federation.worker(1, workshop=another)
    running = asyncio.create_task(federation.coordinator.run(federation))
    with pytest.raises(Refused, match="another layout"):
        await odd.run()
    federation.coordinator.stop("done")
    with pytest.raises(RunParked):
        await running
    federation.store.close()


async def test_a_worker_declines_what_it_did_not_agree_to(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    careful = federation.worker(1, consent=WorkerConsent(models=("resnet18",)))
    running = asyncio.create_task(federation.coordinator.run(federation))
    with pytest.raises(Refused, match="agreed to resnet18 only"):
        await careful.run()
    federation.coordinator.stop("done")
    with pytest.raises(RunParked):
        await running
    federation.store.close()


async def test_a_worker_that_is_stopped_says_goodbye(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    worker = asyncio.create_task(federation.worker(1).run())
    running = asyncio.create_task(federation.coordinator.run(federation))
    while not federation.coordinator._rounds.connected:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    while federation.coordinator._rounds.connected:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    assert federation.coordinator._desk.views
    federation.coordinator.stop("done")
    with pytest.raises(RunParked):
        await running
    federation.store.close()


@pytest.mark.parametrize(("is_started_again", "expected"), [(True, {"client1"}), (False, set())])
async def test_a_worker_whose_processes_are_started_again_is_expected_back(
    tmp_path: Path, is_started_again: bool, expected: set[str]
) -> None:
    federation = Federation(tmp_path, run_settings=settings(workers=1, quorum=1))

    class Bereaved(TinyData):
        def batches(self, **options: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            raise ProcessLost("another of this worker's processes is gone")

    worker = federation.worker(1, data=Bereaved())
    worker.is_started_again = is_started_again
    running = asyncio.create_task(federation.coordinator.run(federation))
    with pytest.raises(ProcessLost):
        await worker.run()
    while federation.coordinator._rounds.connected:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0)
    assert set(federation.coordinator._rounds._lost) == expected
    federation.coordinator.stop("done")
    with pytest.raises(RunParked):
        await running
    federation.store.close()


async def test_a_worker_gives_up_after_its_time(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    worker = federation.worker(1)
    worker._retry_for_s = 0.05

    async def nobody() -> object:
        raise ConnectionLost("nobody there")

    worker._connect = nobody  # type: ignore[assignment]  # a coordinator that is not running
    with pytest.raises(ConnectionLost, match="gave up after"):
        await worker.run()
    federation.store.close()


async def test_updates_are_what_the_workers_trained(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=1, workers=1, quorum=1, aggregator="fedavg"))
    own = MemoryOwnModel()
    await federation.run(federation.worker(1, own=own))
    assert own.saved is not None
    found = torch.frombuffer(bytearray(federation.model()), dtype=torch.uint8)
    assert torch.allclose(parameters_of(found, manifest()), parameters_of(own.saved[0], manifest()), atol=1e-6)


class Telling(Notes):
    """Notes that say when an update has been stored."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stored = asyncio.Event()

    def notice(self, text: str) -> None:
        super().notice(text)
        if "is stored" in text:
            self.is_stored.set()


async def killed(federation: Federation, *workers: Worker, after: list[Telling]) -> list[asyncio.Task[None]]:
    """Serve until these have delivered, then vanish as a killed coordinator does; return the workers' tasks."""
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    serving = asyncio.create_task(federation.coordinator.run(federation))
    for notes in after:
        await notes.is_stored.wait()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    for links in federation.links.values():
        links[-1].abort("killed by a test")
    federation.store.close()
    return tasks


async def test_a_coordinator_goes_on_in_the_middle_of_a_round_and_asks_nobody_twice(tmp_path: Path) -> None:
    undisturbed = Federation(tmp_path / "whole")
    await undisturbed.run(*(undisturbed.worker(number) for number in (1, 2, 3)))
    federation = Federation(tmp_path / "cut")
    own = {number: MemoryOwnModel() for number in (1, 2, 3)}
    notes = {number: Telling() for number in (1, 2, 3)}
    held = threading.Event()

    def held_back(made: Workshop) -> Workshop:
        work = made.work

        def wait_first(*arguments: Any) -> object:
            held.wait(20)
            return work(*arguments)

        made.work = wait_first  # type: ignore[method-assign, assignment]  # trains when the test lets it
        return made

    workers = [federation.worker(number, own=own[number], notes=notes[number]) for number in (1, 2)]
    workers.append(federation.worker(3, own=own[3], notes=notes[3], workshop=held_back))
    tasks = await killed(federation, *workers, after=[notes[1], notes[2]])
    again = Federation(tmp_path / "cut")
    for worker in workers:
        worker._connect = functools.partial(again.connect, f"client{workers.index(worker) + 1}")
    held.set()
    try:
        await again.coordinator.run(again)
        await asyncio.gather(*tasks)
    finally:
        again.store.close()
    assert "going on in the middle of round 1, client1, client2 delivered already" in again.notes.notices
    assert again.model() == undisturbed.model(), "bit for bit"
    assert [own[number].writes for number in (1, 2, 3)] == [2, 2, 2], "each trained once a round"
    assert [len(document["updates"]) for document in again.notes.documents] == [3, 3]
    for number in (1, 2, 3):
        assert [text for text in notes[number].notices if "stored" in text] == [
            f"round {n}: the update arrived and is stored" for n in (1, 2)
        ]


async def test_a_recorded_update_whose_file_is_gone_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=1, workers=2, quorum=2))
    notes = Telling()
    waiting = [federation.worker(1, notes=notes)]
    link = asyncio.create_task(await_joined(federation, "client2"))
    tasks = await killed(federation, *waiting, after=[notes])
    link.cancel()
    await asyncio.gather(link, return_exceptions=True)
    (tmp_path / "run" / "spool" / "round-0001" / "client1.update").write_bytes(b"damaged")
    again = Federation(tmp_path, run_settings=settings(rounds=1, workers=2, quorum=2))
    waiting[0]._connect = functools.partial(again.connect, "client1")
    tasks.append(asyncio.create_task(again.worker(2).run()))
    await again.coordinator.run(again)
    await asyncio.gather(*tasks)
    again.store.close()
    assert "client1's update is recorded, but" in caplog.text
    assert [len(document["updates"]) for document in again.notes.documents] == [2]


async def test_updates_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    federation = Federation(
        tmp_path, run_settings=settings(compress="int8"), retention=Retention(checkpoints=1, updates=True)
    )
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    run = tmp_path / "run"
    assert sorted(str(path.relative_to(run)) for path in run.glob("spool/*/*")) == [
        f"spool/round-000{n}/client{number}.update" for n in (1, 2) for number in (1, 2, 3)
    ]
    best = json.loads((run / "history.json").read_text())["best_round"]
    kept = sorted({0, best, 2})
    assert sorted(path.name for path in run.glob("checkpoints/*")) == [f"round-000{n}.pth" for n in kept]


async def test_a_hospital_keeps_its_own_evidence_of_every_round(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=3))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    kinds = [line["kind"] for line in federation.journal("client2").documents]
    assert kinds == ["offered", "acknowledged", "record"] * 3
    first = federation.journal("client2").documents[2]
    assert json.loads(first["entry"])["worker"] == "client2"
    assert "client1" not in json.dumps(first), "other hospitals' entries are not its business"


async def test_a_coordinator_that_rewrites_history_loses_its_hospitals(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=1))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    shutil.rmtree(tmp_path / "run")  # the same run from its beginning: another record of round 1
    again = Federation(tmp_path, run_settings=settings(rounds=2, seed=1))
    with pytest.raises(AuditError, match="round 1: the coordinator shows another record than before"):
        await asyncio.gather(again.coordinator.run(again), *(again.worker(number).run() for number in (1, 2, 3)))
    again.store.close()


async def test_a_worker_that_comes_back_after_the_end_is_told_so(tmp_path: Path) -> None:
    """Found by bench chaos: it tried for an hour to reach a coordinator that had nothing left to do."""
    federation = Federation(tmp_path, run_settings=settings(rounds=1))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    again = Federation(tmp_path, run_settings=settings(rounds=1))
    notes = Notes()
    await again.run(*(again.worker(number, notes=notes) for number in (1, 2, 3)))
    assert "run finished: all 1 rounds are done" in notes.notices


async def test_a_worker_whose_link_breaks_while_the_run_is_finished_is_told_of_the_end(tmp_path: Path) -> None:
    """Found by the simulator: the coordinator went before it had heard of the broken link."""
    federation = Federation(tmp_path, run_settings=settings(rounds=1))
    finish = federation.coordinator._record.finish

    def cut_meanwhile() -> None:
        link = federation.links["client1"][-1]
        link._loop.call_soon_threadsafe(link.abort, "cut by a test")
        time.sleep(0.1)  # in the thread for models
        finish()

    federation.coordinator._record.finish = cut_meanwhile  # type: ignore[method-assign]
    notes = Notes()
    await federation.run(federation.worker(1, notes=notes), federation.worker(2), federation.worker(3))
    assert "run finished: all 1 rounds are done" in notes.notices


async def test_a_stop_within_the_last_round_is_not_forgotten_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the simulator: it waited for its whole grace to tell a worker that was gone."""
    monkeypatch.setattr(worker_service, "FIRST_RETRY_S", 30.0)
    federation = Federation(tmp_path, run_settings=settings(rounds=1), grace_s=20.0)

    def stopped_meanwhile(flat: torch.Tensor) -> dict[str, Any]:
        link = federation.links["client1"][-1]
        link._loop.call_soon_threadsafe(link.abort, "cut by a test")
        link._loop.call_soon_threadsafe(federation.coordinator.stop, "stopped by a test")
        return judge(flat)

    federation.coordinator._judge = stopped_meanwhile
    tasks = [asyncio.create_task(federation.worker(number).run()) for number in (1, 2, 3)]
    async with asyncio.timeout(10):
        await federation.coordinator.run(federation)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    federation.store.close()


async def test_a_model_that_is_asked_for_when_its_update_is_here_is_not_sent(tmp_path: Path) -> None:
    """Found by the simulator: the worker had forgotten the transfer, and its chunk ended the process."""
    federation = Federation(tmp_path, run_settings=settings(rounds=1, workers=2, quorum=2))
    first = asyncio.create_task(federation.worker(1).run())
    serving = asyncio.create_task(federation.coordinator.run(federation))
    link = await await_joined(federation, "client2")
    while not federation.coordinator._rounds.delivered:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    session = federation.coordinator.reception.sessions[WorkerName("client1")]
    before = session.link._connection.acknowledged_bytes
    session._start_sending(ModelWanted(round=1, transfer=1, offset=0))
    await asyncio.sleep(0.1)
    assert session.link._connection.acknowledged_bytes == before
    assert not session.link._connection.awaits_acknowledgement
    link.abort()
    serving.cancel()
    first.cancel()
    await asyncio.gather(serving, first, return_exceptions=True)
    federation.store.close()


async def test_a_run_that_parked_for_faulty_updates_goes_on_when_they_are_mended(tmp_path: Path) -> None:
    """Found in review: the same durable updates were taken up again, and the run parked at once, for ever."""
    changed = settings(workers=5, byzantine=1, quorum=5, rounds=1)
    federation = Federation(tmp_path, run_settings=changed)
    liars = [federation.worker(number, tamper=tamper_named("nan", seed=0)) for number in (4, 5)]
    with pytest.raises(RunParked, match="client4, client5"):
        await federation.run(*liars, *(federation.worker(number) for number in (1, 2, 3)))
    assert "withdrawn" in [line["kind"] for line in federation.journal("client4").documents]
    again = Federation(tmp_path, run_settings=changed)
    await again.run(*(again.worker(number) for number in (1, 2, 3, 4, 5)))
    assert [len(document["updates"]) for document in again.notes.documents] == [5]
