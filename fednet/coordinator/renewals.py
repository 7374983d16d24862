"""Renewals at the coordinator's door: a worker that shows its certificate gets a new one of the same name and role."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from fednet.errors import FednetError
from fednet.protocol import limits
from fednet.protocol.messages import RenewalRefused, RenewalRequested, Renewed
from fednet.security import renewal
from fednet.security.identity import identity_of
from fednet.transport.link import Link

log = logging.getLogger("fednet.coordinator")


class Renewer(Protocol):
    """Signs renewals (fednet.security.renewal)."""

    authorities_sha256: str

    def note_shown(self, certificate_der: bytes, *, now: datetime) -> None:
        """Remember that a worker has connected with this certificate; raises `FednetError`."""

    def renew(self, shown: bytes, request_der: bytes, *, now: datetime) -> renewal.Renewed:
        """Return the certificate and whom to trust; raises `FednetError` with the reason."""


class Renewals:
    """Answers workers' requests, each name's at most once in a while: each costs a signature and a row."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        """`clock` counts seconds."""
        self.renewer: Renewer | None = None
        self._clock = clock
        self._asked: dict[str, float] = {}  # by the names of workers that were let in, so it is bounded by them

    @property
    def authorities_sha256(self) -> str:
        """What a worker is told when it joins; empty where nothing is renewed here."""
        return "" if self.renewer is None else self.renewer.authorities_sha256

    async def note_shown(self, certificate: bytes) -> None:
        """Remember who has connected with a renewed certificate: a change-over of the authority waits for that."""
        if self.renewer is None:
            return
        try:
            await asyncio.to_thread(self.renewer.note_shown, certificate, now=datetime.now(UTC))
        except FednetError as exc:  # it will be shown again
            log.warning("%s", exc)

    async def answer(self, link: Link, shown: bytes, asked: RenewalRequested) -> bytes | None:
        """Answer one request over this link; `shown`: the certificate that proves who asks. Return the new one."""
        name = identity_of(shown).name
        if self.renewer is None:
            self._refuse(link, "renewal-closed", "this coordinator renews no certificates")
            return None
        now = self._clock()
        if now - self._asked.get(name, -limits.RENEWAL_EVERY_S) < limits.RENEWAL_EVERY_S:
            self._refuse(link, "renewal-often", f"asked for twice within {limits.RENEWAL_EVERY_S:.0f} s")
            return None
        self._asked[name] = now
        try:
            done = await asyncio.to_thread(self.renewer.renew, shown, asked.request, now=datetime.now(UTC))
        except FednetError as exc:
            self._refuse(link, getattr(exc, "code", "renewal-refused"), str(exc))
            return None
        log.info("%s: certificate renewed", link.peer)
        link.send(Renewed(certificate=done.certificate, authorities=done.authorities))
        return done.certificate

    def _refuse(self, link: Link, code: str, reason: str) -> None:
        log.warning("%s: certificate not renewed: %s", link.peer, reason)
        link.send(RenewalRefused(code=code, reason=reason))
