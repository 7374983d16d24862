"""Keeps a coordinator's door as its certificates' folder says, while it runs: renewed, changed over, trusted.

Whatever changes there (`cli.py certs`, or the certificate's end drawing near) makes a new TLS context, which the next
handshake uses; connections that are open go on, unless their authority is not trusted any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fednet.coordinator.reception import Reception
from fednet.coordinator.record import RunRecord
from fednet.errors import FednetError, SyncFailed
from fednet.security.authority import RENEW_BEFORE, Authority, open_authority, read_certificate
from fednet.security.contexts import coordinator_context
from fednet.security.enrolment import Enroller
from fednet.security.loopback import LoopbackGrant
from fednet.security.renewal import Renewer
from fednet.security.rotation import authorities_in, signing_authority
from fednet.security.signing import RecordSigner
from fednet.security.tokens import TokenLedger
from fednet.security.trusted import KnownAuthorities, known_authorities
from fednet.transport.tcp import Listener

LOOK_EVERY_S = 2.0  # a handful of file times
_RENEW_AGAIN_AFTER = timedelta(hours=1)  # where the authority ends so soon that no certificate lasts long
_WATCHED = ("authority/ca.pem", "authority/next/ca.pem", "coordinator/cert.pem", "trusted/*.json")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """All that a coordinator's door is made of, as of one look at the folder."""

    authority: Authority  # signs enrolments
    context: ssl.SSLContext
    known: KnownAuthorities
    renewer: Renewer
    signer: RecordSigner
    ends: datetime  # of the coordinator's own certificate


def open_gate(folder: Path, hosts: Sequence[str], *, now: datetime, passphrase: bytes | None = None) -> Gate:
    """Read it from a folder that has an authority; the coordinator's certificate is made or renewed where it must be.

    Raises `CredentialError`.
    """
    authority = open_authority(folder, passphrase=passphrase)
    authority.ensure_coordinator(hosts, now=now)
    return Gate(
        authority=authority,
        context=coordinator_context(folder),
        known=known_authorities(folder),
        renewer=Renewer(signing_authority(folder, passphrase=passphrase), authorities_in(folder), TokenLedger(folder)),
        signer=RecordSigner(folder),
        ends=read_certificate(folder / "coordinator" / "cert.pem").not_valid_after_utc,
    )


class Gatekeeper:
    """Watches the folder and hangs a new door when it changes."""

    def __init__(
        self,
        folder: Path,
        gate: Gate,
        reopen: Callable[[], Gate],
        *,
        listener: Listener,
        reception: Reception,
        record: RunRecord,
        enroller: Enroller,
        grant: LoopbackGrant,
        notice: Callable[[str], None],
    ) -> None:
        """`reopen` reads the folder again (`open_gate`), in a thread."""
        self._folder = folder
        self._gate = gate
        self._reopen = reopen
        self._listener = listener
        self._reception = reception
        self._record = record
        self._enroller = enroller
        self._grant = grant
        self._notice = notice
        self._seen: dict[str, tuple[int, int]] | None = None  # the first look reads all anew: minutes may have passed
        self._renew_at = _renewal_of(gate, now=datetime.now(UTC))
        self._trouble = ""

    def open(self) -> None:
        """Begin to serve with the gate that there is."""
        self._hang(self._gate)

    async def serve(self) -> None:
        """Listen, and look again and again, until cancelled."""
        tasks = [asyncio.create_task(each) for each in (self._listener.serve(), self._keep_looking())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # neither ends but by failing
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look(now=datetime.now(UTC))

    async def look(self, *, now: datetime) -> None:
        """Hang a new door if something has changed. One that cannot be made is said once; the old one stays."""
        state = await asyncio.to_thread(self._state)
        if state == self._seen and now < self._renew_at:
            return
        try:
            gate = await asyncio.to_thread(self._reopen)
            if gate.authority.certificate != self._gate.authority.certificate:
                await asyncio.to_thread(self._grant.lead_to, gate.authority.certificate_der)
        except SyncFailed:
            raise
        except FednetError as exc:  # perhaps one of two files is new, and the other is about to be
            if str(exc) != self._trouble:
                self._notice(f"Warning: certificates are used as they were: {exc}")
            self._trouble = str(exc)
            return
        self._trouble = ""
        self._gate, self._renew_at = gate, _renewal_of(gate, now=now)
        is_first, self._seen = self._seen is None, state
        self._hang(gate)
        if not is_first:
            self._notice(f"certificates read anew from {self._folder}")

    def _hang(self, gate: Gate) -> None:
        self._listener.serve_with(gate.context, self._reception.serve)
        self._reception.renewals.renewer = gate.renewer
        self._enroller.sign_with(gate.authority)
        self._record.sign_with(gate.signer)
        self._reception.identify_by(gate.known.identity)

    def _state(self) -> dict[str, tuple[int, int]]:
        """Return when each file was put there: it is never written in place."""
        found = [path for pattern in _WATCHED for path in self._folder.glob(pattern)]
        state = {}
        for path in found:
            with contextlib.suppress(FileNotFoundError):  # it has just gone
                status = path.stat()
                state[str(path)] = (status.st_mtime_ns, status.st_ino)
        return state


def _renewal_of(gate: Gate, *, now: datetime) -> datetime:
    return max(gate.ends - RENEW_BEFORE, now + _RENEW_AGAIN_AFTER)
