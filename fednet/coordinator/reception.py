"""Who comes to the coordinator: peers that enrol, that measure the way, that take part; it keeps their sessions."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from fednet.config import WorkerName
from fednet.coordinator.desk import Desk
from fednet.coordinator.renewals import Renewals
from fednet.coordinator.sessions import Session
from fednet.errors import REVOKED, ConnectionLost, CredentialError, FednetError, SyncFailed, TooSlow
from fednet.protocol import limits
from fednet.protocol.messages import Enrolled, EnrolRequested, Hello, Message, Probe, Probed, RenewalRequested
from fednet.security.identity import PeerIdentity, Role, identity_of
from fednet.security.ledger import revoked_text
from fednet.security.revocation import Revocations
from fednet.transport.attempts import Attempts
from fednet.transport.complaints import Complaints
from fednet.transport.link import Link
from fednet.transport.tcp import whose

log = logging.getLogger("fednet.coordinator")


class Enroller(Protocol):
    """Signs a worker's request (fednet.security.enrolment)."""

    def enrol(self, name: str, secret: bytes, request_der: bytes, *, peer_address: str, now: datetime) -> bytes:
        """Return the certificate, DER; raises `FednetError` with the reason."""


class Reception:
    """Serves one peer after another, and knows which workers are connected."""

    def __init__(self, desk: Desk) -> None:
        self.enroller: Enroller | None = None
        self.renewals = Renewals(clock=desk.now)
        self.identify: Callable[[bytes], PeerIdentity] = identity_of
        """Returns who a verified certificate's owner is, if its authority may say so; else raises `CredentialError`."""
        self.sessions: dict[WorkerName, Session] = {}
        self.dismissed: set[WorkerName] = set()  # who has been told goodbye
        self.revocations = Revocations()  # as of the last look
        self._desk = desk
        self._attempts = Attempts()
        self._complaints = Complaints(log)
        self._probing: dict[WorkerName, tuple[PeerIdentity, Link]] = {}

    async def serve(self, link: Link, first: Message) -> None:
        """Serve one peer whose first message has come, until it is gone."""
        try:
            if isinstance(first, EnrolRequested):
                await self._enrol(link, first)
            elif isinstance(first, Probe):
                await self._serve_probes(link, first)
            elif isinstance(first, RenewalRequested):
                await self._renew(link, first)
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
        if await self._is_too_often(link, request):
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
            code = getattr(exc, "code", "enrolment-refused")
            log.warning("%s: enrolment as %r refused (%s): %s", link.peer, request.name, code, exc)
            await link.close(code, str(exc))
            return
        log.info("%s: enrolled as %s", link.peer, request.name)
        link.send(Enrolled(certificate=certificate))
        await link.close("enrolled", "certificate issued")

    async def _is_too_often(self, link: Link, request: EnrolRequested) -> bool:
        now, address = self._desk.now(), whose(link.address) if link.address else ""
        wait_s = self._attempts.take(address, now=now)
        if wait_s == 0.0:
            return False
        text = f"{link.peer}: enrolment as {request.name!r} refused (enrolment-busy): too many attempts"
        self._complaints.say(address, text, now=now)
        await link.close("enrolment-busy", f"too many enrolments at once: try again in {math.ceil(wait_s)} s")
        return True

    async def _renew(self, link: Link, asked: RenewalRequested) -> None:
        assert link.certificate is not None, "the protocol takes no RenewalRequested without a certificate"
        if await self._admitted(link, Role.WORKER, Role.OBSERVER) is None:
            return
        await self.renewals.answer(link, link.certificate, asked)
        await link.close("answered", "a renewal's connection ends with its answer")

    async def _serve_probes(self, link: Link, first: Probe) -> None:
        identity = await self._admitted(link, Role.WORKER, Role.OBSERVER)
        if identity is None:
            return
        prober = identity.name
        if prober in self._probing or len(self._probing) >= limits.MAX_PROBING:
            await link.close("busy", "somebody measures already: try again in half a minute")
            return
        log.info("%s measures the way", link.peer)
        self._probing[prober] = identity, link
        try:
            await answer_probes(link, first)
        finally:
            del self._probing[prober]

    async def _serve_worker(self, link: Link, hello: Hello) -> None:
        identity = await self._admitted(link, Role.WORKER)
        if identity is None:
            return
        worker = identity.name
        if await self._is_taken(worker, link) or await self._is_revoked(identity, link):
            return
        if not self._desk.rounds.admits(worker, now=self._desk.now()):
            reason = f"this run has its {self._desk.settings.workers} workers already (--workers)"
            await link.close("run-full", reason)
            return
        session = self.sessions[worker] = Session(self._desk, link, identity, self.renewals)
        log.info("%s connected", link.peer)
        try:
            await session.serve(hello)
        finally:
            self._forget(worker, session)

    async def _admitted(self, link: Link, *roles: Role) -> PeerIdentity | None:
        """Return who a peer is that has shown a certificate of one of these roles; others are told why they must go.

        Raises `CredentialError` where its authority may not say so.
        """
        assert link.certificate is not None, "without a certificate the protocol takes nothing but an enrolment"
        await self.renewals.note_shown(link.certificate)  # before it is looked whom to trust now
        identity = self.identify(link.certificate)
        link.peer = f"{identity.name} ({link.peer})"
        if identity.role not in roles:
            allowed = " or ".join(each.value for each in roles)
            reason = f"the certificate is of the role {identity.role.value}, not {allowed}"
            log.warning("%s refused: %s", link.peer, reason)
            await link.close("role", reason)
            return None
        return None if await self._is_revoked(identity, link) else identity

    async def _is_revoked(self, identity: PeerIdentity, link: Link) -> bool:
        reason = self.revocations.reason_for(identity)
        if reason is None:
            return False
        log.warning("%s refused: its certificate is revoked: %s", link.peer, reason)
        await link.close(REVOKED, revoked_text(identity.name, reason))
        return True

    async def expel_revoked(self) -> None:
        """Show out who is inside with a certificate that is revoked by now."""
        revoked, parting = self.revocations, []
        for session in self.sessions.values():
            if not session.is_expelled and (reason := revoked.reason_for(session.identity)) is not None:
                log.warning("%s shown out: its certificate is revoked: %s", session.link.peer, reason)
                parting.append(session.expel(REVOKED, revoked_text(session.worker, reason)))
        for identity, link in self._probing.values():
            if (reason := revoked.reason_for(identity)) is not None:
                parting.append(link.part(REVOKED, revoked_text(identity.name, reason)))
        await asyncio.gather(*parting)

    async def _is_taken(self, worker: WorkerName, link: Link) -> bool:
        while (older := self.sessions.get(worker)) is not None:
            if await self._is_served(worker, older, link):
                return True
        return link.has_failed  # it may have had to wait

    async def _is_served(self, worker: WorkerName, older: Session, link: Link) -> bool:
        """Whether the older session goes on; else it is gone when this returns."""
        if not older.is_expelled and await older.link.is_alive():
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

    def show_signs_of_life(self, now: datetime) -> None:
        """Renew when each worker was last heard."""
        for session in self.sessions.values():
            session.show_sign_of_life(now)

    def identify_by(self, identify: Callable[[bytes], PeerIdentity]) -> None:
        """Say anew who a certificate's owner is; drop connections whose authority may not vouch for them any more."""
        self.identify = identify
        measuring = [link for _, link in self._probing.values()]
        for link in [*(session.link for session in self.sessions.values()), *measuring]:
            try:
                assert link.certificate is not None, "whoever was admitted has a certificate"
                identify(link.certificate)
            except CredentialError as exc:
                log.warning("%s dropped: %s", link.peer, exc)
                link.abort(str(exc))

    async def dismiss(self, code: str, reason: str) -> None:
        """Say goodbye to every worker that is connected."""
        self._complaints.flush()
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
