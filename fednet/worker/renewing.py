"""Keeps a worker's certificate from ending: asks for a new one over the connection that there is, while it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from fednet.errors import FednetError, SyncFailed
from fednet.protocol.messages import RenewalRefused, RenewalRequested, Renewed
from fednet.transport.link import Link

LOOK_EVERY_S = 3600.0  # a certificate's last third is days long


class OwnCertificate(Protocol):
    """The worker's key and certificate (fednet.security.renewal). Files are read and written: call it in a thread."""

    def request_due(self, told: str) -> bytes | None:
        """Return a signing request where it is time, else None; `told`: digest of whom the coordinator trusts."""

    def store(self, certificate_der: bytes, told: Sequence[bytes]) -> datetime:
        """Put a renewed certificate in place; return when it ends. Raises `FednetError`."""


class Renewing:
    """One connection's part in it. What fails is said, and tried again: the present certificate is still good."""

    def __init__(
        self, link: Link, own: OwnCertificate, notice: Callable[[str], None], *, look_every_s: float = LOOK_EVERY_S
    ) -> None:
        self._link = link
        self._own = own
        self._notice = notice
        self._look_every_s = look_every_s
        self._told = ""

    async def run(self, told: str) -> None:
        """Look now, then regularly, until cancelled. `told`: what the coordinator said of its authorities, or ""."""
        self._told = told
        while True:
            try:
                request = await asyncio.to_thread(self._own.request_due, self._told)
                if request is not None:
                    self._link.send(RenewalRequested(request=request))
            except SyncFailed:
                raise
            except FednetError as exc:
                self._notice(f"Warning: the certificate cannot be renewed: {exc}")
            await asyncio.sleep(self._look_every_s)

    async def take(self, answer: Renewed | RenewalRefused) -> None:
        """Store what came, or say why nothing did. Raises `SyncFailed` alone."""
        if isinstance(answer, RenewalRefused):
            self._notice(f"Warning: the certificate was not renewed: {answer.reason}")
            return
        try:
            ends = await asyncio.to_thread(self._own.store, answer.certificate, answer.authorities)
        except SyncFailed:
            raise
        except FednetError as exc:
            self._notice(f"Warning: the renewed certificate is not used: {exc}")
        else:
            self._told = ""  # heeded: an answer that changes nothing must not be asked for each hour
            self._notice(f"certificate renewed, good until {ends:%Y-%m-%d}; the next connection shows it")
