"""The coordinator: listens, and carries out what the pure rounds decide."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import torch

from fednet.aggregation.reputation import warning
from fednet.aggregation.server_optimizer import FRESH, ServerState
from fednet.aggregation.team import ALONE, Team
from fednet.audit.record import CHOSEN_METRICS
from fednet.config import RunId, RunSettings, WorkerName
from fednet.coordinator.aggregator import Combined, TrustIn, combine_updates, mapped, model_with
from fednet.coordinator.conclusions import refusal_of_step
from fednet.coordinator.declining import declined_in
from fednet.coordinator.desk import DeliveredUpdate, Desk, ModelOffer
from fednet.coordinator.expulsion import Expulsion, ReadRevocations
from fednet.coordinator.laggards import laggards
from fednet.coordinator.privacy_ledger import CentreLedger
from fednet.coordinator.reception import Reception
from fednet.coordinator.record import RunRecord, Timings
from fednet.coordinator.round import (
    Aggregate,
    AggregationFailed,
    Command,
    CommitRound,
    EvaluateModel,
    Event,
    FinishRun,
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
    WorkerJoined,
    WorkerRevoked,
)
from fednet.coordinator.site_evaluation import site_evaluation
from fednet.coordinator.waiting import some, waiting_text
from fednet.errors import AggregationError, FednetError, RunParked, StorageError, SyncFailed
from fednet.failpoints import reached_state
from fednet.protocol.messages import RoundClosed, RunStatus
from fednet.reporting.reporter import RunReporter, WorkerView
from fednet.security.revocation import Revocations
from fednet.storage.store import RunStore
from fednet.tensors import Manifest, bytes_of, digest_of
from fednet.transport.capacity import give_back_memory

log = logging.getLogger("fednet.coordinator")

GRACE_S = 60.0  # a worker whose link broke is awaited this long: a reboot or a reconnect, not a dead site
Result = TypeVar("Result")

STATUS_EVERY_S = 1.0
_GIVE_BACK_EVERY = 30  # status lines: memory that connections have freed


class Listening(Protocol):
    """Brings peers to `Reception.serve` (transport.tcp.Listener)."""

    async def serve(self) -> None:
        """Go on until cancelled."""


class ShowStatus(Protocol):
    """Tells whoever watches over the process how it stands (reporting.status.StatusFile)."""

    def __call__(
        self,
        text: str,
        *,
        phase: str,
        round_number: int,
        round_s: float | None,
        views: list[WorkerView],
        declined: Mapping[WorkerName, str],
    ) -> None:
        """Show it; runs in a thread. `declined`: who takes no part in the round or the run, and why.

        `round_s`: how long the round has lasted; None where none has begun.
        """


Refit = Callable[[torch.Tensor], torch.Tensor]
"""Returns a flat model (uint8) with BatchNorm statistics of the coordinator's own validation scans."""

Judge = Callable[[torch.Tensor], dict[str, Any]]
"""Evaluates a flat model (uint8) on the coordinator's own data: {"test": metrics, "validation": metrics}."""


class Coordinator:
    """One run, from waiting for its workers to its last round."""

    def __init__(
        self,
        *,
        run: RunId,
        settings: RunSettings,
        manifest: Manifest,
        model: torch.Tensor,
        store: RunStore,
        record: RunRecord,
        judge: Judge,
        reporter: RunReporter,
        device: torch.device,
        grace_s: float = GRACE_S,
        trust_in: TrustIn | None = None,
        refit: Refit | None = None,
        server: ServerState = FRESH,
        team: Team = ALONE,
        keeps_updates: bool = False,
        show_status: ShowStatus | None = None,
        revocations: ReadRevocations | None = None,
    ) -> None:
        """`model` is the flat global model (uint8) that the next round starts from; `server` goes with it.

        `revocations` is asked again and again while the run lasts; None: nobody is revoked.
        """
        self._show_status = show_status
        loop = asyncio.get_running_loop()
        committed = record.rounds
        self._ledger = CentreLedger(settings, store) if settings.client_privacy.is_on else None
        self._rounds = Rounds(
            settings,
            first_round=len(committed) + 1,
            known_workers=_workers_of(committed[-1].document) if committed else (),
            grace_s=grace_s,
            now=loop.time(),
            is_complete=record.is_complete or not self._affords_another,
        )
        # One thread for all work on models: each that does some keeps arenas and multiplication buffers of its own
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._desk = Desk(
            run=run,
            settings=settings,
            manifest=manifest,
            rounds=self._rounds,
            store=store,
            computing=self._computing,
            headers_after=record.headers_after,
            keeps_updates=keeps_updates,
        )
        self._store = store
        self._recovered: dict[WorkerName, DeliveredUpdate] = {}
        self._asked: frozenset[WorkerName] = frozenset()  # the round's cohort, as far as it is durable
        self._is_stopping = False
        self._settings = settings
        self._manifest = manifest
        self._model = model
        self._record = record
        self._judge = judge
        self._reporter = reporter
        self._device = device
        self._grace_s = grace_s
        self._trust_in = trust_in
        self._refit = refit
        self._server = server
        self._team = team
        self.reception = Reception(self._desk)
        self._expulsion = Expulsion(
            revocations or Revocations,
            desk=self._desk,
            reception=self.reception,
            store=store,
            notice=reporter.notice,
        )
        self._watches = revocations is not None
        self._combined: Combined | None = None
        self._absent: list[WorkerName] = []  # of the round's cohort, when it closed
        self._declined: dict[WorkerName, str] = {}  # likewise; who declined is not absent
        self._judgement: dict[str, Any] = {}
        self._timings = Timings()
        self._round_began = 0.0
        self._last_status = ""

    def stop(self, reason: str) -> None:
        """Ask the run to stop cleanly: it parks, after the commit where one is under way. Call it on the loop."""
        self._is_stopping = True
        self._desk.events.put_nowait(StopRequested(reason))

    async def run(self, listener: Listening) -> None:
        """Serve on a bound listener whose peers come to `reception`, until the run has finished.

        Raises `RunParked` when it stopped before its last round, `StorageError` when the disk is full.
        """
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._renew_status("taking up what is there")
            await self._expulsion.begin()
            await self._recover()
            watching = [self._expulsion.watch()] if self._watches else []
            for work in (listener.serve(), self._keep_reporting(), *watching):
                tasks.append(asyncio.create_task(work))
                tasks[-1].add_done_callback(self._report_failure)
            await self._drive()
            if len(self._record.rounds) < self._settings.rounds:
                self._reporter.notice(self._farewell)
            await self._end("finished", self._farewell)
            await self._see_off()
        except SyncFailed as exc:  # what the disk holds is unknown: nothing more is written
            await self.reception.dismiss("failed", str(exc))
            raise
        except FednetError as exc:
            how = "parked" if isinstance(exc, RunParked) else "failed"
            await self._end(how, str(exc))
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._desk.leave_round()
            self._computing.shutdown(wait=False)

    def _report_failure(self, task: asyncio.Task[None]) -> None:
        """End the run when the listener or the reporting ends by itself."""
        if not task.cancelled() and isinstance(failure := task.exception(), Exception):
            self._desk.events.put_nowait(failure)

    async def _recover(self) -> None:
        """Take up what an earlier process left: it may have died between a commit and what follows from it."""
        if self._record.rounds:
            await self._compute(self._record.publish)
        if self._rounds.is_over:
            await self._compute(self._record.finish)
            return
        under_way = self._store.round_under_way()
        if under_way is not None:
            under_way = await self._expulsion.still_good(under_way)
            self._recovered = await self._compute(self._desk.recovered, under_way)
            self._desk.events.put_nowait(RoundRecovered(under_way.cohort, frozenset(self._recovered)))
            here = f", {some(sorted(self._recovered), ', ')} delivered already" if self._recovered else ""
            self._reporter.notice(f"going on in the middle of round {under_way.round}{here}")

    @property
    def _affords_another(self) -> bool:
        """Whether there is client-level privacy left for another round, or none is kept."""
        return self._ledger is None or self._ledger.affords_another

    @property
    def _farewell(self) -> str:
        done, asked = len(self._record.rounds), self._settings.rounds
        if done < asked and not self._affords_another:
            return f"ended early, after {done} of {asked} rounds: another would spend more privacy than the run may"
        if done < asked:
            return f"ended early, after {done} of {asked} rounds: the last {self._settings.early_stop} were no better"
        return f"all {asked} rounds are done"

    async def _see_off(self) -> None:
        """Tell workers whose links broke lately that the run is over: else they would try for an hour to come back."""
        is_said = False
        while not self._is_stopping:
            absent = self._rounds.awaited(now=self._desk.now()) - self.reception.dismissed
            if not absent and self._desk.events.empty():
                return
            if absent and not is_said:
                names = some(sorted(absent), ", ")
                self._reporter.notice(f"{self._farewell}; waiting up to {self._grace_s:.0f} s to tell {names}")
                is_said = True
            event = await self._next_event()
            self._rounds.handle(event, now=self._desk.now())
            self._answer(event)
            if isinstance(event, WorkerJoined):
                await self.reception.dismiss("finished", self._farewell)

    async def _end(self, how: str, reason: str) -> None:
        try:
            self._store.ended(how, reason)
        except StorageError as exc:  # what ends the run may be this very disk
            if how == "finished":
                raise
            log.warning("%s", exc)
        await self.reception.dismiss(how, reason)

    # Rounds

    async def _drive(self) -> None:
        self._report_waiting()
        reached_state("coordinator.waiting")
        while not self._rounds.is_over:
            event = await self._next_event()
            overlooked = await self._expulsion.overlooked()
            for revoked in overlooked:  # before they are aggregated, or committed
                await self._take(revoked)
            if event not in overlooked:
                await self._take(event)

    async def _take(self, event: Event) -> None:
        if isinstance(event, WorkerRevoked):
            await self._expulsion.take_back(event)
        before = self._rounds.phase
        commands = self._rounds.handle(event, now=self._desk.now())
        self._answer(event)
        if self._rounds.phase is not before:
            reached_state(f"coordinator.{self._rounds.phase.name.lower()}")
        for command in commands:
            await self._carry_out(command)

    def _answer(self, event: Event) -> None:
        match event:
            case WorkerJoined(worker):
                self._catch_up(worker)
            case UpdateStored(worker, number) if worker in self.reception.sessions:
                reached_state("coordinator.update-durable")
                self.reception.sessions[worker].update_stored(number)
                reached_state("coordinator.acknowledged")

    async def _next_event(self) -> Event:
        now = self._desk.now()
        wake_at = self._rounds.wake_at(now=now)
        try:
            async with asyncio.timeout(None if wake_at is None else wake_at - now):
                event = await self._desk.events.get()
        except TimeoutError:
            return TimePassed()
        if isinstance(event, Exception):
            raise event
        return event

    async def _carry_out(self, command: Command) -> None:
        match command:
            case StartRound(number):
                await self._start_round(number)
            case SendModel(worker, number):
                if worker not in self._asked:
                    await self._note_cohort(number)
                if worker in self.reception.sessions:
                    self.reception.sessions[worker].send_model()
            case Aggregate(number, workers):
                await self._aggregate(number, workers)
            case EvaluateModel():
                await self._evaluate()
            case CommitRound(number):
                await self._commit(number)
            case ParkRun(reason):
                raise RunParked(f"run parked: {reason}. Everything is saved; --resume continues it")
            case FinishRun():
                await self._compute(self._record.finish)

    async def _start_round(self, number: int) -> None:
        self._timings, self._round_began = Timings(), time.perf_counter()
        self._desk.require_room(updates=self._settings.workers - len(self._recovered))
        encoded = await self._compute(self._desk.model_form.encoded, self._model, self._manifest)
        digest = await self._compute(digest_of, encoded)
        await self._note_cohort(number)
        delivered, self._recovered = self._recovered, {}
        self._desk.begin_round(ModelOffer(number, bytes_of(encoded), digest, self._desk.now()), delivered)

    async def _note_cohort(self, number: int) -> None:
        """Make durable who is asked: a process that takes over waits for them."""
        self._asked = self._rounds.cohort
        await asyncio.to_thread(self._store.round_begun, number, self._asked)

    async def _aggregate(self, number: int, workers: Sequence[WorkerName]) -> None:
        desk = self._desk
        assert desk.offer is not None
        collecting_s = desk.now() - desk.offer.began_s
        self._timings.train = max(desk.delivered[worker].train_s for worker in workers)
        self._declined = declined_in(
            self._rounds.cohort, workers, this_round=self._rounds.declined, the_run=desk.run_declined_by
        )
        self._absent = sorted(self._rounds.cohort - set(workers) - self._declined.keys())
        self._timings.transfer = max(0.0, collecting_s - self._timings.train)
        for session in list(self.reception.sessions.values()):
            await session.close_round(number)
        began = time.perf_counter()
        try:
            self._combined = await self._compute(
                combine_updates,
                self._model,
                {worker: desk.delivered[worker] for worker in workers},
                manifest=self._manifest,
                settings=self._settings,
                round_number=number,
                device=self._device,
                trust_in=self._trust_in,
                team=self._team,
                quarantined=self._record.quarantined(),
                resent=self._record.resent({worker: desk.delivered[worker].sha256 for worker in workers}),
                server=self._server,
                release=None if self._ledger is None else self._ledger.release,
            )
            self._combined = await self._compute(mapped, self._combined)
            self._combined = replace(self._combined, model=await self._refitted(self._combined.model))
        except AggregationError as exc:
            await self._withdraw([worker for worker in workers if not exc.faulty or worker in exc.faulty], str(exc))
            desk.events.put_nowait(AggregationFailed(str(exc)))
            return
        self._timings.aggregate = time.perf_counter() - began
        desk.events.put_nowait(UpdatesAggregated())

    async def _withdraw(self, workers: Sequence[WorkerName], reason: str) -> None:
        """Forget updates that no aggregation can use: a resumed run asks for them again, and their workers know."""
        for worker in workers:
            await asyncio.to_thread(self._store.update_lost, self._rounds.round_number, worker)
            if worker in self.reception.sessions:
                self.reception.sessions[worker].withdraw_update(self._rounds.round_number, reason)

    async def _evaluate(self) -> None:
        assert self._combined is not None
        began = time.perf_counter()
        self._judgement = await self._compute(self._judge, self._combined.model)
        self._judgement |= await self._judged_with_suspects(self._combined)
        self._guard(self._combined)
        self._timings.evaluate = time.perf_counter() - began
        self._desk.events.put_nowait(ModelEvaluated())

    async def _refitted(self, model: torch.Tensor) -> torch.Tensor:
        return model if self._refit is None else await self._compute(self._refit, model)

    def _guard(self, combined: Combined) -> None:
        """Keep the model of before where the new one is clearly worse; the record says what was refused."""
        before = self._record.rounds[-1].document if self._record.rounds else None
        reason = refusal_of_step(before, self._judgement, guard=self._settings.guard)
        if before is not None and reason is not None:
            refused = {"reason": reason, **self._judgement}
            self._judgement = {name: before[name] for name in ("validation", "test") if name in before}
            self._judgement["refused"] = refused
            self._combined = replace(combined, model=self._model, server=self._server)

    async def _judged_with_suspects(self, combined: Combined) -> dict[str, Any]:
        """Return validation with each suspect's update counted too: is it a faulty site, or one that is missed?"""
        if self._ledger is not None:
            return {}  # their updates have no noise
        suspects = {each.worker for each in self._record.suspects()}
        found = {}
        for verdict in combined.outcome.verdicts:
            was_scored = verdict.cosine is not None  # neither faulty nor in quarantine
            if verdict.worker in suspects and not verdict.selected and was_scored:
                update = self._desk.delivered[verdict.worker]
                model = await self._compute(
                    model_with,
                    self._model,
                    combined,
                    update,
                    manifest=self._manifest,
                    settings=self._settings,
                    server=self._server,
                )
                model = await self._refitted(model)
                found[verdict.worker] = (await self._compute(self._judge, model)).get("validation")
        return {"validation_with": found} if found else {}

    async def _commit(self, number: int) -> None:
        combined, self._combined = self._combined, None
        assert combined is not None
        counted = {verdict.worker for verdict in combined.outcome.verdicts}  # some with a certificate made since
        revoked = {worker: why for worker, why in self._expulsion.of_round.items() if worker not in counted}
        document = {
            "round": number,
            **combined.document(self._desk.delivered),
            "absent": self._absent,
            **({"declined": self._declined} if self._declined else {}),
            **({"revoked": revoked} if revoked else {}),
            **self._judgement,
            **self._told_by_sites(number, combined),
        }
        document = await self._compute(
            self._record.commit,
            document,
            combined.model,
            self._timings,
            round_began=self._round_began,
            server=combined.server,
        )
        self._model, self._server = combined.model, combined.server
        reached_state("coordinator.committed")
        for worker, session in self.reception.sessions.items():
            session.link.send(self._closing(worker, document))
        self._desk.end_round()
        self._expulsion.round_is_over()
        self._reporter.round_committed(document)
        if "refused" in document:
            self._reporter.notice(f"Warning: {document['refused']['reason']}")
        for suspect in self._record.suspects():
            if suspect.worker not in combined.quarantined:
                tried = would_improve(document, suspect.worker)
                self._reporter.notice(f"Warning: {warning(suspect, would_improve=tried)}")
        for text in laggards([each.document for each in self._record.rounds]):
            self._reporter.notice(f"Warning: {text}")
        self._desk.events.put_nowait(RoundCommitted(is_last=self._record.is_complete or not self._affords_another))

    def _told_by_sites(self, number: int, combined: Combined) -> dict[str, Any]:
        updates = [self._desk.delivered[verdict.worker] for verdict in combined.outcome.verdicts]
        return site_evaluation(updates, classes=len(self._settings.classes), round_number=number)

    def _closing(self, worker: WorkerName, document: dict[str, Any]) -> RoundClosed:
        """Say to one worker how the last committed round ended, with the record that proves it."""
        test = document.get("test") or {}
        entry = self._record.last_update_of(worker)
        return RoundClosed(
            round=document["round"],
            verdict="absent" if entry is None else "selected" if entry["selected"] else "rejected",
            reason="no update of this worker was in time" if entry is None else entry["reason"],
            weight=0.0 if entry is None else float(entry["weight"]),
            metrics={name: test[name] for name in CHOSEN_METRICS if name in test},
            **asdict(self._record.shown_to(worker)),
        )

    def _catch_up(self, worker: WorkerName) -> None:
        """Tell a worker that comes back how the last round ended, if it does not know, and what is here of its own."""
        session, rounds = self.reception.sessions.get(worker), self._record.rounds
        if session is None:
            return
        if rounds and session.known_record < rounds[-1].round:
            session.link.send(self._closing(worker, rounds[-1].document))
        if worker in self._rounds.delivered:
            session.update_stored(self._rounds.round_number)

    # Saying what is going on

    async def _keep_reporting(self) -> None:
        for tick in itertools.count(1):
            await asyncio.sleep(STATUS_EVERY_S)
            text = self._report_waiting()
            await self._renew_status(text)
            if tick % _GIVE_BACK_EVERY == 0:
                await asyncio.to_thread(give_back_memory)

    async def _compute(self, work: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """Return what `work` does in the thread for models."""
        job = functools.partial(work, *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._computing, job)

    async def _renew_status(self, text: str) -> None:
        if self._show_status is not None:
            phase, number, views = self._rounds.phase.value, self._rounds.round_number, list(self._desk.views.values())
            declined = self._desk.run_declined_by | self._rounds.declined
            offer = self._desk.offer
            self.reception.show_signs_of_life(datetime.now(UTC))
            await asyncio.to_thread(
                self._show_status,
                text,
                phase=phase,
                round_number=number,
                round_s=None if offer is None else self._desk.now() - offer.began_s,
                views=views,
                declined=declined,
            )

    def _report_waiting(self) -> str:
        self._desk.show_uploads()
        text = waiting_text(self._rounds, self._settings, self._desk)
        self._reporter.status(text, sorted(self._desk.views.values(), key=lambda view: view.name))
        if self._rounds.phase is Phase.WAITING and text != self._last_status:
            for worker in self._rounds.connected & self.reception.sessions.keys():
                self.reception.sessions[worker].link.send(RunStatus(text=text))
        self._last_status = text
        return text


def would_improve(document: dict[str, Any], worker: str) -> bool | None:
    """Return whether a round's validation loss is lower with this rejected worker's update; None: not tried."""
    tried = document.get("validation_with", {}).get(worker)
    return None if tried is None else bool(tried["loss"] < document["validation"]["loss"])


def _workers_of(document: dict[str, Any]) -> tuple[WorkerName, ...]:
    return tuple(WorkerName(entry["worker"]) for entry in document["updates"])
