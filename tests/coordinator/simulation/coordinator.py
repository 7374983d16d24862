"""The model of `coordinator.service.Coordinator` and its `Reception`, around the real `Rounds`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fednet.audit.record import SignedRecord
from fednet.config import WorkerName
from fednet.coordinator.round import (
    Aggregate,
    Command,
    CommitRound,
    EvaluateModel,
    Event,
    FinishRun,
    ModelEvaluated,
    ParkRun,
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
)
from fednet.errors import RunParked
from fednet.protocol import limits
from fednet.protocol.messages import RoundClosed
from tests.coordinator.simulation.clock import Host, Job, World
from tests.coordinator.simulation.database import Committed, Database, Verdict, record_of, shown
from tests.coordinator.simulation.desk import Delivered, Desk, Offer, spool_path
from tests.coordinator.simulation.disk import Disk
from tests.coordinator.simulation.network import LOST, Connection
from tests.coordinator.simulation.session import Session
from tests.coordinator.simulation.updates import FIRST_MODEL, combined, digest_of, is_selected
from tests.coordinator.simulation.witness import Witness, checkpoint_path


class Coordinator(Host):
    """One run, over as many processes as it takes; what `start` sets is a process's memory."""

    def __init__(
        self,
        world: World,
        witness: Witness,
        disk: Disk,
        database: Database,
        *,
        rounds: type[Rounds] = Rounds,
        desk: type[Desk] = Desk,
        session: type[Session] = Session,
    ) -> None:
        """`rounds`, `desk` and `session`: what it is made of."""
        plan = world.plan
        super().__init__(world, "coordinator", crash_chance=plan.coordinator_crash_chance, write_s=plan.write_s)
        self._rounds_type, self._desk_type, self._session_type = rounds, desk, session
        self._witness, self._disk, self._database = witness, disk, database
        self._settings = world.plan.settings
        self.is_listening = self.is_up = False

    def start(self) -> None:
        """Begin a process."""
        self.world.say(self.name, "starts")
        self.life += 1
        self.is_up, self.is_stopping = True, False
        self._database.open()
        rounds = self._database.rounds
        self.rounds = self._rounds_type(
            self._settings,
            first_round=len(rounds) + 1,
            known_workers=tuple(each.worker for each in rounds[-1].verdicts) if rounds else (),
            grace_s=self.world.plan.grace_s,
            now=self.world.now,
        )
        self.desk = self._desk_type(self, self._witness, self._disk, self._database, self.rounds)
        self.sessions: dict[WorkerName, Session] = {}
        self._links: list[Connection] = []
        self._dismissed: set[WorkerName] = set()
        self._recovered: dict[WorkerName, Delivered] = {}
        self._combined: tuple[str, tuple[Verdict, ...]] | None = None
        self._model = rounds[-1].model if rounds else FIRST_MODEL
        self._driver = self.spawn(self._run())

    def stop(self) -> None:
        """Ask for a clean stop."""
        if self.is_listening:
            self.world.counts["stops"] += 1
            self.is_stopping = True
            self.desk.events.post(StopRequested("stopped by SIGTERM"))
            self.world.at(self.world.now + self.world.plan.stops_within_s, self._require_stopped, self.life)

    def crash(self) -> None:
        """Die: killed, or without power."""
        if not self.is_up:
            return
        has_power = self.world.dice.random() < 0.5
        self.world.counts["kills" if has_power else "power losses"] += 1
        self.world.say(self.name, "is killed" if has_power else "loses power")
        if not has_power:
            self._disk.lose_power(self.world.dice)
        self._end_process()
        self.world.at(self.world.soon(5.0), self.start)

    def accept(self, worker: WorkerName, link: Connection) -> None:
        """Take a connection."""
        self._links.append(link)
        session = self._session_type(self.desk, worker, link, self._forget)
        link.to_coordinator.hear = session.hear
        self.spawn(self._serve_worker(session))

    def _require_stopped(self, life: int) -> None:
        if self.life == life:
            self._witness.still_runs()

    def _end_process(self) -> None:
        self.life += 1
        self.is_listening = self.is_up = False
        self.desk.is_gone = True
        for link in self._links:
            if not link.is_over:
                link.cut()

    def _serve_worker(self, session: Session) -> Job[None]:
        while (older := self.sessions.get(session.worker)) is not None:
            yield self.world.soon(limits.ALIVE_WITHIN_S)  # it is asked for a sign of life
            older.hear(LOST)
            while not older.is_over:
                yield self.world.now + 0.05
            self._forget(older)
        if session.link.is_over:
            return
        assert self.rounds.admits(session.worker, now=self.world.now), "there are no more workers than places"
        self.sessions[session.worker] = session
        session.greet()

    def _forget(self, session: Session) -> None:
        if self.sessions.get(session.worker) is session:
            del self.sessions[session.worker]

    def _dismiss(self, code: str, reason: str) -> Job[None]:
        sessions = list(self.sessions.values())
        for session in sessions:
            session.close(code, reason)
            if code == "finished":
                self._witness.dismissed(session.worker, session.link)
        yield self.world.soon(1.0)
        self._dismissed |= {session.worker for session in sessions}

    # A process

    def _run(self) -> Job[None]:
        self._witness.restarted()
        self._sweep()
        yield from self._recover()
        self.is_listening = True
        try:
            yield from self._drive()
            yield from self._dismiss("finished", "all rounds are done")
            yield from self.see_off()
            self._witness.has_seen_off()
        except RunParked as exc:
            self._witness.parked(str(exc))
            yield from self._dismiss("parked", str(exc))
            self._settings = replace(self._settings, patience_s=2 * self._settings.patience_s)  # the operator's answer
            self.world.at(self.world.soon(20.0), self.start)
        self._end_process()

    def _sweep(self) -> None:
        committed = self._database.rounds
        kept = {spool_path(*key) for key in self._database.updates if key[0] > len(committed)}
        kept |= {checkpoint_path(each.round) for each in committed}
        for path in self._disk.names.keys() - kept:
            self._disk.unlink(path)

    def _recover(self) -> Job[None]:
        number = len(self._database.rounds) + 1
        cohort = self._database.begun.get(number)
        if cohort is None:
            return
        for worker in self.world.plan.workers:
            if (number, worker) in self._database.updates:
                yield from self._recover_update(number, worker)
        self._witness.recovered(number, {worker: each.sha256 for worker, each in self._recovered.items()})
        self.world.counts["recovered updates"] += len(self._recovered)
        self.desk.events.post(RoundRecovered(cohort, frozenset(self._recovered)))

    def _recover_update(self, number: int, worker: WorkerName) -> Job[None]:
        path, sha256 = spool_path(number, worker), self._database.updates[number, worker]
        file = self._disk.names.get(path)
        if file is not None and digest_of(file.content) == sha256:
            self._recovered[worker] = Delivered(path, sha256)
            return
        self.world.counts["rows dropped"] += 1
        drop = partial(self._database.updates.pop, (number, worker))
        yield from self._database.transact(self, f"drops the row of {worker}", drop)

    def see_off(self) -> Job[None]:
        """Tell workers whose links broke lately that the run is over."""
        while self.sees_off():
            event = yield from self._next_event()
            self.rounds.handle(event, now=self.world.now)
            self._answer(event)
            if isinstance(event, WorkerJoined):
                self.world.counts["workers seen off"] += 1
                yield from self._dismiss("finished", "all rounds are done")
        if self.is_stopping:
            self._witness.nobody_is_seen_off()

    def sees_off(self) -> bool:
        """Whether somebody who does not know may come back, or has just (or that has not been looked at yet)."""
        return not self.is_stopping and bool(self.desk.events or self.is_awaiting())

    def is_awaiting(self) -> bool:
        """Whether somebody who was not told of the end may come back."""
        return bool(self.rounds.awaited(now=self.world.now) - self._dismissed)

    # Rounds

    def _drive(self) -> Job[None]:
        while not self.rounds.is_over:
            event = yield from self._next_event()
            commands = self.rounds.handle(event, now=self.world.now)
            self._answer(event)
            for command in commands:
                self.world.say(self.name, "does", command)
                yield from self._carry_out(command)

    def _next_event(self) -> Job[Event]:
        now = self.world.now
        wake_at = self.rounds.wake_at(now=now)
        if self.world.strikes(0.02):
            wake_at = now  # a timer may be early
        events = self.desk.events
        if not events:
            yield from events.wait(self._driver, math.inf if wake_at is None else wake_at)
        event = events.popleft() if events else TimePassed()
        self.world.say(self.name, "takes", event)
        return event  # type: ignore[return-value]

    def _answer(self, event: Event) -> None:
        match event:
            case WorkerJoined(worker):
                self.catch_up(worker)
            case UpdateStored(worker, number) if worker in self.sessions:
                self.sessions[worker].update_stored(number)

    def _carry_out(self, command: Command) -> Job[None]:
        match command:
            case StartRound(number):
                yield from self._start_round(number)
            case SendModel(worker, _):
                if worker in self.sessions:
                    self.sessions[worker].send_model()
            case Aggregate(number, workers):
                yield from self._aggregate(number, workers)
            case EvaluateModel():
                yield self.world.soon(self.world.plan.computing_s)
                self.desk.events.post(ModelEvaluated())
            case CommitRound(number):
                yield from self._commit(number)
            case ParkRun(reason):
                raise RunParked(reason)
            case FinishRun():
                yield self.world.soon(0.5)  # final.pth

    def _start_round(self, number: int) -> Job[None]:
        yield self.world.soon(0.5)
        begin = partial(self._database.begun.setdefault, number, self.rounds.cohort)
        yield from self._database.transact(self, f"begins round {number}", begin)
        delivered, self._recovered = self._recovered, {}
        self.desk.begin_round(Offer(number, self._model), delivered)

    def _aggregate(self, number: int, workers: Sequence[WorkerName]) -> Job[None]:
        for session in list(self.sessions.values()):
            session.close_round(number)
        yield self.world.soon(self.world.plan.computing_s)
        self.may_die("after combining", chance=self.world.plan.crash_once_closed_chance)
        taken = [(worker, self.desk.delivered[worker]) for worker in workers]
        contents = [(worker, self._disk.names[each.path].content, each.sha256) for worker, each in taken]
        self._witness.aggregated(number, self._model, contents)
        verdicts = tuple(Verdict(worker, each.sha256) for worker, each in taken)
        self._combined = combined(self._model, [(worker, each.sha256) for worker, each in taken]), verdicts
        self.world.counts["rounds without everybody"] += len(workers) < len(self.world.plan.workers)
        self.desk.events.post(UpdatesAggregated())

    def _commit(self, number: int) -> Job[None]:
        assert self._combined is not None
        committed = Committed(number, *self._combined)
        yield from self._save_checkpoint(checkpoint_path(number), committed.model)
        record = record_of(committed, self._model, self._database.records[-1].digest)
        commit = partial(self._commit_row, committed, record)
        yield from self._database.transact(self, f"commits round {number}", commit)
        yield self.world.soon(0.5)  # history.json and best.pth
        self._model = committed.model
        for worker, session in self.sessions.items():
            session.send(self._closing(worker))
        self.desk.end_round()
        self.desk.events.post(RoundCommitted())

    def _save_checkpoint(self, path: str, model: str) -> Job[None]:
        temporary, disk = f"{path}.tmp", self._disk
        file = disk.create(temporary)
        file.content = model
        yield from self.write("syncs a checkpoint", partial(disk.sync, file), longest_s=self.world.plan.sync_s)
        yield from self.write("renames it", partial(disk.rename, temporary, path))
        yield from self.write("syncs its folder", partial(disk.sync_folder, "checkpoints/"))

    def _commit_row(self, committed: Committed, record: SignedRecord) -> None:
        self._witness.committed(committed)
        self._database.commit(committed, record)

    def _closing(self, worker: WorkerName) -> RoundClosed:
        committed, record = self._database.rounds[-1], self._database.records[-1]
        _, verdict = committed.verdict_on(worker) or (0, None)
        word = "absent" if verdict is None else "selected" if is_selected(verdict.sha256) else "rejected"
        proof = vars(shown(record, committed, worker))
        return RoundClosed(round=committed.round, verdict=word, reason="", weight=0.0, metrics={}, **proof)

    def catch_up(self, worker: WorkerName) -> None:
        """Tell a worker that joins how the last round ended, and that its update is stored where it is."""
        session, rounds = self.sessions.get(worker), self._database.rounds
        if session is None:
            return
        if rounds and session.known_record < rounds[-1].round:
            session.send(self._closing(worker))
        if worker in self.rounds.delivered:
            session.update_stored(self.rounds.round_number)
