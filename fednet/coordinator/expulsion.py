"""Revoked workers at a running coordinator: looks for them again and again, shows them out, and takes updates back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from fednet.config import WorkerName
from fednet.coordinator.desk import Desk
from fednet.coordinator.reception import Reception
from fednet.coordinator.round import WorkerRevoked
from fednet.errors import FednetError, StorageError
from fednet.security.revocation import Revocations
from fednet.storage.store import RoundUnderWay, RunStore

log = logging.getLogger("fednet.coordinator")

LOOK_EVERY_S = 0.4  # two short queries of a small file; whoever is revoked must be gone within a second

ReadRevocations = Callable[[], Revocations]
"""Returns what is revoked now; runs in a thread; raises `StorageError`."""


class Expulsion:
    """What becomes of revoked workers in one run. Lives on the event loop; the ledger is read in a thread."""

    def __init__(
        self,
        read: ReadRevocations,
        *,
        desk: Desk,
        reception: Reception,
        store: RunStore,
        notice: Callable[[str], None],
    ) -> None:
        self._read = read
        self._desk = desk
        self._reception = reception
        self._store = store
        self._notice = notice
        self._trouble = ""
        self._of_round: dict[WorkerName, str] = {}
        self._noted: set[tuple[WorkerName, str]] = set()  # in the running round

    @property
    def of_round(self) -> dict[WorkerName, str]:
        """Who was asked in the running round and is revoked, and why; by name."""
        return dict(sorted(self._of_round.items()))

    def round_is_over(self) -> None:
        """Begin anew: another round comes."""
        self._of_round.clear()
        self._noted.clear()

    async def begin(self) -> None:
        """Look for the first time; raises `StorageError`: nothing is served where it is not known who is revoked."""
        await self._apply(await asyncio.to_thread(self._read))

    async def watch(self) -> None:
        """Look again and again, until cancelled. A ledger that cannot be read is said once; what is known stays."""
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                try:
                    found = await asyncio.to_thread(self._read)
                except FednetError as exc:
                    if str(exc) != self._trouble:
                        log.error("revocations are used as they were: %s", exc)
                    self._trouble = str(exc)
                    continue
                self._trouble = ""
                if found != self._reception.revocations:
                    group.create_task(self._apply(found))

    async def _apply(self, found: Revocations) -> None:
        self._reception.revocations = found  # from here on the door knows, and who is inside is looked at below
        rounds, sessions = self._desk.rounds, self._reception.sessions
        gone = {}
        for worker in {*sessions, *self._desk.delivered, *rounds.cohort, *rounds.awaited(now=self._desk.now())}:
            if (reason := self._reason_for(worker)) is not None:
                gone[worker] = reason
                self._desk.events.put_nowait(WorkerRevoked(worker, reason))
        await asyncio.gather(self._reception.expel_revoked(), *(self._note(*each) for each in sorted(gone.items())))

    def _reason_for(self, worker: WorkerName) -> str | None:
        """Return why a worker's part in the run ends, as its connection, its update or its name says."""
        revoked, session = self._reception.revocations, self._reception.sessions.get(worker)
        if session is not None and (reason := revoked.reason_for(session.identity)) is not None:
            return reason
        update = self._desk.delivered.get(worker)
        if update is not None and (reason := revoked.reason(worker, update.fingerprint)) is not None:
            return reason
        return revoked.names.get(worker)

    async def overlooked(self) -> list[WorkerRevoked]:
        """Return whose updates are delivered and came with certificates that are revoked.

        One that was being written, or recovered, when its certificate was revoked shows only now.
        """
        revoked, delivered = self._reception.revocations, self._desk.delivered
        if not revoked.certificates and not revoked.names:
            return []
        reasons = {worker: revoked.reason(worker, update.fingerprint) for worker, update in delivered.items()}
        found = [WorkerRevoked(worker, reason) for worker, reason in sorted(reasons.items()) if reason is not None]
        for each in found:
            await self._note(each.worker, each.reason)
        return found

    async def _note(self, worker: WorkerName, reason: str) -> None:
        if (worker, reason) in self._noted:
            return
        self._noted.add((worker, reason))
        self._notice(f"{worker}'s certificate is revoked: {reason}; nothing of it counts from here on")
        try:
            await asyncio.to_thread(self._store.worker_revoked, worker, reason)
        except StorageError as exc:
            self._desk.events.put_nowait(exc)

    async def take_back(self, revoked: WorkerRevoked) -> None:
        """Take an update out of the running round, where it came with a revoked certificate; call it between steps."""
        worker = revoked.worker
        if worker in self._desk.rounds.cohort and self._desk.offer is not None:  # not committed yet
            self._of_round[worker] = revoked.reason
        session = self._reception.sessions.get(worker)
        is_shown_out = session is not None and self._is_revoked(worker, session.identity.fingerprint)
        if session is not None and is_shown_out:
            await session.ended()
        await self._desk.drop_update(worker, of=lambda print_: self._is_revoked(worker, print_))
        if session is not None and not is_shown_out:
            session.link.abort("another certificate of its name is revoked: it joins anew")

    def _is_revoked(self, worker: WorkerName, fingerprint: str) -> bool:
        return self._reception.revocations.reason(worker, fingerprint) is not None

    async def still_good(self, under_way: RoundUnderWay) -> RoundUnderWay:
        """Return what counts still of a round that an earlier process has begun; the rest is dropped for good."""
        revoked = self._reception.revocations
        prints = {each.worker: each.fingerprint for each in under_way.updates}
        found = {worker: revoked.reason(worker, prints.get(worker, "")) for worker in under_way.cohort | prints.keys()}
        self._of_round |= {worker: reason for worker, reason in found.items() if reason is not None}
        for worker in self._of_round.keys() & prints.keys():
            await asyncio.to_thread(self._store.update_lost, under_way.round, worker)
        return replace(
            under_way,
            cohort=under_way.cohort - self._of_round.keys(),
            updates=tuple(each for each in under_way.updates if each.worker not in self._of_round),
        )
