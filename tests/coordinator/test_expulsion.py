"""Revoking a worker while a run goes on, in one event loop."""

import asyncio
import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fednet.config import WorkerName
from fednet.coordinator import expulsion
from fednet.coordinator.desk import IncomingUpdate
from fednet.errors import Refused, RunParked, StorageError
from fednet.protocol.messages import Goodbye, Hello, Probe, Probed, Ready, Welcome
from fednet.protocol.states import State
from fednet.security.authority import read_certificate
from fednet.security.identity import identity_of
from fednet.security.revocation import RevocationLedger
from fednet.security.signing import fingerprint_of
from fednet.storage.history import read_history
from fednet.transport.link import Link
from fednet.worker import service as worker_service
from fednet.worker.service import Worker
from fednet.worker.workshop import Workshop
from tests.federation import Federation, Notes, judge, settings
from tests.security.certs import NOW

BAD = "client3"


@pytest.fixture(autouse=True)
def looks_and_returns_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expulsion, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(worker_service, "FIRST_RETRY_S", 0.01)


def revoke(federation: Federation, subject: str = BAD, reason: str = "laptop stolen") -> None:
    RevocationLedger(federation.certs).revoke(subject, reason=reason, now=NOW)


def distrust(federation: Federation) -> None:
    """As `certs trust --remove` does: of a site's own authority the ledger knows no certificates."""
    RevocationLedger(federation.certs).shut_out([BAD], reason="laptop stolen", now=NOW)


def waiting_for(event: asyncio.Event) -> Callable[[Workshop], Workshop]:
    """Return what makes a worker keep its update until then."""
    loop = asyncio.get_running_loop()

    def held(made: Workshop) -> Workshop:
        work = made.work

        def and_wait(*arguments: Any) -> object:
            result = work(*arguments)
            asyncio.run_coroutine_threadsafe(event.wait(), loop).result(20)
            return result

        made.work = and_wait  # type: ignore[method-assign, assignment]  # what is trained is told later
        return made

    return held


def documents(federation: Federation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((federation.folder / "run" / "history.json").read_text())["rounds"]
    return found


def events(federation: Federation) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(federation.folder / "run" / "run.sqlite")) as database:
        return database.execute("SELECT what, detail FROM events").fetchall()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.005)


async def outcome(federation: Federation, *numbers: int, workers: list[Worker]) -> list[BaseException | None]:
    """Run to the end with further workers whose failures are returned."""
    others = [asyncio.create_task(worker.run()) for worker in workers]
    await federation.run(*(federation.worker(number) for number in numbers))
    return await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("ends", [revoke, distrust])
async def test_a_worker_that_is_revoked_while_others_train_takes_part_no_more(
    tmp_path: Path, ends: Callable[[Federation], None]
) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=2))
    waits = asyncio.Event()

    async def revoke_in_the_middle() -> None:
        await until(lambda: BAD in federation.coordinator._rounds.delivered)
        await asyncio.to_thread(ends, federation)
        await until(lambda: BAD not in federation.coordinator._rounds.delivered)
        assert BAD not in federation.coordinator._desk.delivered
        assert federation.store.stored_in(1) == set(), "its row is gone, and the others have not delivered"
        waits.set()

    revoking = asyncio.create_task(revoke_in_the_middle())
    bad = asyncio.create_task(federation.worker(3).run())
    await federation.run(*(federation.worker(number, workshop=waiting_for(waits)) for number in (1, 2)))
    await revoking
    with pytest.raises(Refused, match="client3 is revoked: laptop stolen") as refused:
        await bad
    assert (refused.value.code, refused.value.exit_code) == ("revoked", 2)
    first, second = documents(federation)
    assert [each["worker"] for each in first["updates"]] == ["client1", "client2"]
    assert first["revoked"] == {BAD: "laptop stolen"}
    assert first["absent"] == []
    assert "revoked" not in second
    assert ("revoked", f"{BAD}: laptop stolen") in events(federation)
    assert read_history(tmp_path / "run").ending.startswith("finished")
    assert [text for text in federation.notes.notices if "revoked" in text] == [
        "client3's certificate is revoked: laptop stolen; nothing of it counts from here on"
    ]


@pytest.mark.parametrize("step", ["_refitted", "_judge"])
async def test_a_model_that_a_revoked_update_is_in_already_is_made_again(tmp_path: Path, step: str) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=1))
    coordinator = federation.coordinator
    times: list[int] = []
    loop = asyncio.get_running_loop()

    async def revoked_meanwhile() -> None:
        times.append(len(times))
        if len(times) == 1:
            await asyncio.to_thread(revoke, federation)
            await until(lambda: bool(federation.notes.notices and "revoked" in federation.notes.notices[-1]))

    async def refitted(model: torch.Tensor) -> torch.Tensor:
        await revoked_meanwhile()
        return model

    def judged(flat: torch.Tensor) -> dict[str, Any]:
        asyncio.run_coroutine_threadsafe(revoked_meanwhile(), loop).result(20)
        return judge(flat)

    setattr(coordinator, step, refitted if step == "_refitted" else judged)
    (failure,) = await outcome(federation, 1, 2, workers=[federation.worker(3)])
    assert isinstance(failure, Refused)
    (document,) = documents(federation)
    assert [each["worker"] for each in document["updates"]] == ["client1", "client2"]
    assert document["revoked"] == {BAD: "laptop stolen"}
    assert len(times) == 2
    alone = Federation(tmp_path / "alone", run_settings=settings(rounds=1, workers=2))
    await alone.run(*(alone.worker(number) for number in (1, 2)))
    assert federation.model() == alone.model(), "as if it had never been there"


def another_certificate(federation: Federation) -> str:
    """Let the worker enrol twice, and use the first certificate; return that one's fingerprint."""
    first = federation.certificate(BAD)
    (federation.certs / "workers" / BAD / "cert.pem").unlink()
    federation.certificate(BAD)
    others = federation.certificate
    federation.certificate = lambda name: first if name == BAD else others(name)  # type: ignore[method-assign]
    return identity_of(first).fingerprint


async def test_an_update_whose_certificate_is_revoked_while_it_is_written_does_not_count(tmp_path: Path) -> None:
    """Its sender has hung up, and has another certificate that is good: no session and no name tell of it."""
    federation = Federation(tmp_path, run_settings=settings(rounds=1))
    kept, desk = another_certificate(federation), federation.coordinator._desk
    is_written, others_wait, on_disk = asyncio.Event(), asyncio.Event(), desk._on_disk

    async def slowly(incoming: IncomingUpdate) -> Path:
        path = await on_disk(incoming)
        if incoming.fingerprint == kept:
            await is_written.wait()
        return path

    desk._on_disk = slowly  # type: ignore[method-assign]
    bad = asyncio.create_task(federation.worker(3).run())

    async def revoke_in_the_middle() -> None:
        await until(lambda: BAD in desk._incoming and desk._incoming[WorkerName(BAD)].durable is not None)
        bad.cancel()
        await until(lambda: BAD not in federation.coordinator.reception.sessions)
        await asyncio.to_thread(revoke, federation, kept)
        await until(lambda: kept in federation.coordinator.reception.revocations.certificates)
        is_written.set()
        others_wait.set()

    revoking = asyncio.create_task(revoke_in_the_middle())
    await federation.run(*(federation.worker(number, workshop=waiting_for(others_wait)) for number in (1, 2)))
    await revoking
    (document,) = documents(federation)
    assert [each["worker"] for each in document["updates"]] == ["client1", "client2"]
    assert document["revoked"] == {BAD: "laptop stolen"}
    assert [text for text in federation.notes.notices if "revoked" in text] == [
        "client3's certificate is revoked: laptop stolen; nothing of it counts from here on"
    ]


async def stopped_in_the_middle(federation: Federation) -> None:
    """Run until the update that is to be revoked has been delivered, and no other one has."""
    waits = asyncio.Event()

    async def stop_in_the_middle() -> None:
        await until(lambda: BAD in federation.coordinator._rounds.delivered)
        federation.coordinator.stop("a test")
        waits.set()

    stopping = asyncio.create_task(stop_in_the_middle())
    with pytest.raises(RunParked):
        held = [federation.worker(number, workshop=waiting_for(waits)) for number in (1, 2)]
        await federation.run(*held, federation.worker(3))
    await stopping


async def test_an_update_that_a_coordinator_takes_over_and_that_is_revoked_before_its_round_begins_does_not_count(
    tmp_path: Path,
) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=1))
    kept = another_certificate(federation)
    await stopped_in_the_middle(federation)
    again = Federation(tmp_path, run_settings=settings(rounds=1))
    coordinator, start = again.coordinator, again.coordinator._start_round

    async def slowly(number: int) -> None:
        await asyncio.to_thread(revoke, again, kept)
        await until(lambda: kept in coordinator.reception.revocations.certificates)
        await start(number)

    coordinator._start_round = slowly  # type: ignore[method-assign]
    await again.run(*(again.worker(number) for number in (1, 2)))
    (document,) = documents(again)
    assert [each["worker"] for each in document["updates"]] == ["client1", "client2"]
    assert document["revoked"] == {BAD: "laptop stolen"}


async def test_below_quorum_without_the_revoked_update_the_run_parks(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(quorum=3, deadline_s=1.0, patience_s=0.5))
    has_gone = asyncio.Event()

    async def revoke_in_the_middle() -> None:
        await until(lambda: BAD in federation.coordinator._rounds.delivered)
        await asyncio.to_thread(revoke, federation)
        await until(lambda: BAD not in federation.coordinator._rounds.delivered)
        has_gone.set()

    revoking = asyncio.create_task(revoke_in_the_middle())
    bad = asyncio.create_task(federation.worker(3).run())
    with pytest.raises(RunParked, match="2 of at least 3 workers delivered"):
        await federation.run(*(federation.worker(number, workshop=waiting_for(has_gone)) for number in (1, 2)))
    await revoking
    with pytest.raises(Refused):
        await bad


async def test_a_coordinator_that_takes_over_does_not_count_a_revoked_update(tmp_path: Path) -> None:
    federation = Federation(tmp_path, run_settings=settings(rounds=1))
    await stopped_in_the_middle(federation)
    revoke(federation)
    again = Federation(tmp_path, run_settings=settings(rounds=1))
    under_way = again.store.round_under_way()
    assert under_way is not None
    assert BAD in {each.worker for each in under_way.updates}
    (failure,) = await outcome(again, 1, 2, workers=[again.worker(3)])
    assert isinstance(failure, Refused)
    (document,) = documents(again)
    assert [each["worker"] for each in document["updates"]] == ["client1", "client2"]
    assert document["revoked"] == {BAD: "laptop stolen"}


async def greeted(federation: Federation, name: str) -> tuple[Link, object]:
    link = await federation.connect(name)
    link.send(Hello(software="test"))
    return link, await link.receive()


async def serving(federation: Federation) -> asyncio.Task[None]:
    run = asyncio.create_task(federation.coordinator.run(federation))
    await federation.is_open.wait()
    return run


async def end(federation: Federation, run: asyncio.Task[None]) -> None:
    federation.coordinator.stop("the test is over")
    with contextlib.suppress(RunParked):
        await run
    federation.store.close()


async def test_before_it_is_ready_and_when_it_comes_again_a_revoked_worker_hears_why(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    run = await serving(federation)
    link, welcome = await greeted(federation, BAD)
    assert isinstance(welcome, Welcome)
    await asyncio.to_thread(revoke, federation)
    said = await link.receive()
    assert isinstance(said, Goodbye)
    assert (said.code, "laptop stolen" in said.reason) == ("revoked", True)
    await until(lambda: BAD not in federation.coordinator.reception.sessions)
    greetings = ((Hello(software="test"), State.WAITING), (Probe(filling=b""), State.PROBING))
    for first, begins in greetings:
        again = await federation.connect(BAD, begins=begins)
        again.send(first)
        said = await again.receive()
        assert isinstance(said, Goodbye)
        assert said.code == "revoked"
    await end(federation, run)


async def test_who_measures_the_way_is_shown_out_too(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    run = await serving(federation)
    link = await federation.connect(BAD, begins=State.PROBING)
    link.send(Probe(filling=b"x"))
    assert isinstance(await link.receive(), Probed)
    await asyncio.to_thread(revoke, federation)
    said = await link.receive()
    assert isinstance(said, Goodbye)
    assert said.code == "revoked"
    await end(federation, run)


async def test_a_thief_with_a_revoked_certificate_does_not_reach_the_hospital_that_has_a_new_one(
    tmp_path: Path,
) -> None:
    federation = Federation(tmp_path)
    federation.certificate("client3")
    path = federation.certs / "workers" / BAD / "cert.pem"
    stolen, kept = federation.certificate(BAD), fingerprint_of(read_certificate(path))
    path.unlink()
    federation.certificate(BAD)  # the hospital enrols again
    await asyncio.to_thread(revoke, federation, kept)
    run = await serving(federation)
    honest, welcome = await greeted(federation, BAD)
    assert isinstance(welcome, Welcome)
    honest.send(Ready(manifest=welcome.manifest, samples=1, device="cpu"))
    await until(lambda: BAD in federation.coordinator._rounds.connected)
    federation.certificate = lambda name: stolen  # type: ignore[method-assign]
    _, said = await greeted(federation, BAD)
    assert isinstance(said, Goodbye)
    assert said.code == "revoked"
    assert await honest.is_alive()
    await end(federation, run)


async def test_a_ledger_that_cannot_be_read_leaves_what_is_known_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(tmp_path)
    found, calls = federation.coordinator._expulsion, []

    def failing() -> Any:
        calls.append(1)
        raise StorageError("tokens.sqlite: disk I/O error")

    run = await serving(federation)
    known = federation.coordinator.reception.revocations
    found._read = failing
    await until(lambda: len(calls) >= 3)
    assert caplog.text.count("revocations are used as they were") == 1
    assert federation.coordinator.reception.revocations is known
    assert not run.done()
    await end(federation, run)


async def test_nothing_is_served_where_it_is_not_known_who_is_revoked(tmp_path: Path) -> None:
    federation = Federation(tmp_path)

    def failing() -> Any:
        raise StorageError("tokens.sqlite: no such table")

    federation.coordinator._expulsion._read = failing
    with pytest.raises(StorageError, match="no such table"):
        await federation.coordinator.run(federation)
    federation.store.close()


async def test_notes_of_a_worker_say_the_reason(tmp_path: Path) -> None:
    federation = Federation(tmp_path)
    federation.certificate(BAD)
    revoke(federation, reason="left the study")
    run = await serving(federation)
    worker = federation.worker(3, notes=Notes())
    with pytest.raises(Refused, match="left the study"):
        await worker.run()
    assert WorkerName(BAD) not in federation.coordinator._rounds.connected
    await end(federation, run)
