"""Who comes to the coordinator: peers that enrol, that measure the way, that take part; it keeps their sessions."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Protocol

from fednet.config import WorkerName
from fednet.coordinator.desk import Desk
from fednet.coordinator.sessions import Session
from fednet.errors import ConnectionLost, CredentialError, FednetError, SyncFailed, TooSlow
from fednet.protocol import limits
from fednet.protocol.messages import Enrolled, EnrolRequested, Hello, Message, Probe, Probed
from fednet.security.identity import Role, identity_of
from fednet.transport.link import Link

log = logging.getLogger("fednet.coordinator")


class Enroller(Protocol):
    """Signs a worker's request (fednet.security.enrolment)."""

    def enrol(self, name: str, secret: bytes, request_der: bytes, *, peer_address: str, now: datetime) -> bytes:
        """Return the certificate, DER; raises `FednetError` with the reason."""


class Reception:
    """Serves one peer after another, and knows which workers are connected."""

    def __init__(self, desk: Desk) -> None:
        self.enroller: Enroller | None = None
        self.sessions: dict[WorkerName, Session] = {}
        self.dismissed: set[WorkerName] = set()  # who has been told goodbye
        self._desk = desk
        self._probing: set[WorkerName] = set()

    async def serve(self, link: Link, first: Message) -> None:
        """Serve one peer whose first message has come, until it is gone."""
        try:
            if isinstance(first, EnrolRequested):
                await self._enrol(link, first)
            elif isinstance(first, Probe):
                await self._serve_probes(link, first)
            elif isinstance(first, Hello):
                await self._serve_worker(link, first)
        except TooSlow as exc:
            log.warning("%s", exc)
        except ConnectionLost as exc:
            log.info("%s", exc)
        except FednetError as exc:
            log.warning("%s dropped: %s", link.peer, exc)

    async def _enrol(self, link: Link, request: EnrolRequested) -> None:
        if self.enroller is None:
            await link.close("enrolment-closed", "this coordinator signs no certificates")
            return
        try:
            certificate = await asyncio.to_thread(
                self.enroller.enrol,
                request.name,
                request.secret,
                request.request,
                peer_address=link.address,
                now=datetime.now(UTC),
            )
        except SyncFailed as exc:
            self._desk.events.put_nowait(exc)
            await link.close("enrolment-refused", "the coordinator's disk failed")
            return
        except FednetError as exc:
            log.warning("%s: enrolment as %r refused: %s", link.peer, request.name, exc)
            await link.close(getattr(exc, "code", "enrolment-refused"), str(exc))
            return
        log.info("%s: enrolled as %s", link.peer, request.name)
        link.send(Enrolled(certificate=certificate))
        await link.close("enrolled", "certificate issued")

    async def _serve_probes(self, link: Link, first: Probe) -> None:
        assert link.certificate is not None, "the protocol takes no Probe without a certificate"
        prober = identity_of(link.certificate).name
        if prober in self._probing or len(self._probing) >= limits.MAX_PROBING:
            await link.close("busy", "somebody measures already: try again in half a minute")
            return
        log.info("%s: %s measures the way", link.peer, prober)
        self._probing.add(prober)
        try:
            await answer_probes(link, first)
        finally:
            self._probing.discard(prober)

    async def _serve_worker(self, link: Link, hello: Hello) -> None:
        assert link.certificate is not None, "the protocol takes no Hello without a certificate"
        identity = identity_of(link.certificate)
        if identity.role is not Role.WORKER:
            raise CredentialError(f"{link.peer} shows a {identity.role.value}'s certificate, not a worker's")
        worker = identity.name
        link.peer = f"{worker} ({link.peer})"
        if await self._is_taken(worker, link):
            return
        if not self._desk.rounds.admits(worker, now=self._desk.now()):
            reason = f"this run has its {self._desk.settings.workers} workers already (--workers)"
            await link.close("run-full", reason)
            return
        session = self.sessions[worker] = Session(self._desk, link, identity)
        log.info("%s connected", link.peer)
        try:
            await session.serve(hello)
        finally:
            self._forget(worker, session)

    async def _is_taken(self, worker: WorkerName, link: Link) -> bool:
        while (older := self.sessions.get(worker)) is not None:
            if await self._is_served(worker, older, link):
                return True
        return link.has_failed  # it may have had to wait

    async def _is_served(self, worker: WorkerName, older: Session, link: Link) -> bool:
        """Whether the older session goes on; else it is gone when this returns."""
        if await older.link.is_alive():
            reason = f"{worker} is connected already, from {older.link.address}: each hospital needs its own identity"
            log.warning("%s refused: %s", link.peer, reason)
            await link.close("identity-in-use", reason)
            return True
        older.link.abort("superseded: it did not answer and its worker came back")
        await older.ended()  # or both would write to the same update
        self._forget(worker, older)
        return False

    def _forget(self, worker: WorkerName, session: Session) -> None:
        if self.sessions.get(worker) is session:
            del self.sessions[worker]

    async def dismiss(self, code: str, reason: str) -> None:
        """Say goodbye to every worker that is connected."""
        sessions = list(self.sessions.values())
        await asyncio.gather(*(session.link.close(code, reason) for session in sessions))
        self.dismissed |= {session.worker for session in sessions}


async def answer_probes(link: Link, probe: Message) -> None:
    """Give a peer that measures the way what it needs, for a while."""
    try:
        async with asyncio.timeout(limits.PROBING_S):
            for _ in range(limits.MAX_PROBES):
                if not isinstance(probe, Probe):
                    return
                link.send(Probed(unix_time_s=time.time(), filling=probe.filling))
                probe = await link.receive()
    except TimeoutError:
        pass
    await link.close("probing-over", f"a connection may measure for {limits.PROBING_S:.0f} s, by so many probes")
