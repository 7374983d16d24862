"""The way to the coordinator: its address, a proxy, and the door that a worker comes through with its certificate."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fednet.config import DEFAULT_HOST, DEFAULT_PORT, WorkerName
from fednet.errors import BadInput, ConnectionLost, CredentialError, FednetError, Refused
from fednet.protocol.states import State

if TYPE_CHECKING:
    from cryptography import x509

    from fednet.protocol.messages import Message
    from fednet.security.enrolment import Credentials, GivenFiles
    from fednet.security.pinning import Pins
    from fednet.security.renewal import OwnCertificate
    from fednet.security.tokens import JoinToken
    from fednet.transport.link import Link
    from fednet.transport.proxy import Proxy

_ANSWER_WITHIN_S = 30.0


class Door:
    """How this worker gets to its coordinator: enrols where it must, then connects with its certificate."""

    def __init__(
        self,
        certs: Path,
        name: WorkerName,
        host: str,
        port: int,
        token: JoinToken | None,
        *,
        proxy: Proxy | None = None,
        given: GivenFiles | None = None,
        pins: Pins | None = None,
    ) -> None:
        """`given`: a certificate of the site's own authority, in place of one that the coordinator signs.

        `pins`: which coordinators the hospital agrees to, whatever a token says.
        """
        from fednet.security.enrolment import credentials_in

        self.credentials: Credentials = credentials_in(certs, name, given=given)
        self.host, self.port, self.proxy = host, port, proxy
        self._certs = certs
        self._token = token
        self._pins = pins

    async def connect(self) -> Link:
        """Return a link of this worker's own identity. Raises as `fednet.transport.tcp.connect`, or `Refused`."""
        await self.enrol_if_needed()
        return await self.reach()

    async def enrol_if_needed(self) -> None:
        """Get a certificate where there is none that is good. Raises as `connect`."""
        if not self._must_enrol():
            return
        token = self._token or self._loopback_token()
        if token is None:
            raise self._no_token()
        try:
            await self._enrol(token)
        except Refused as exc:
            if self._token is None and exc.code == "token-unknown":  # left by a coordinator that died
                raise ConnectionLost("the coordinator on this machine has just been started again") from exc
            if exc.code == "enrolment-busy":
                raise ConnectionLost(str(exc)) from exc
            raise

    def drop_revoked(self) -> bool:
        """Remove a revoked certificate and its key where there is a token to get others with; return whether so."""
        from fednet.storage import disk

        if self._token is None or self.credentials.given is not None:
            return False
        for path in (self.credentials.certificate_path, self.credentials.key_path):
            disk.unlink(path)
        return True

    async def reach(self, *, begins: State = State.WAITING) -> Link:
        """Return a link with the certificate that there is."""
        from fednet.security.authority import read_certificates
        from fednet.security.contexts import worker_context

        context = worker_context(self.credentials)
        return await self._opened(context, begins, read_certificates(self.credentials.authority_path))

    async def _opened(self, context: ssl.SSLContext, begins: State, authorities: Sequence[x509.Certificate]) -> Link:
        """Return a link to a coordinator that is agreed to, over which nothing has been said yet."""
        from fednet.security.enrolment import known_before
        from fednet.security.identity import require_coordinator
        from fednet.transport.tcp import connect

        link = await connect(self.host, self.port, context, begins=begins, proxy=self.proxy)
        try:
            require_coordinator(link.certificate, host=self.host)
            if self._pins is not None:
                self._pins.require(link.certificate, authorities, before=known_before(self.credentials))
        except CredentialError:
            link.abort("not a coordinator that was agreed to")
            raise
        return link

    @property
    def own_certificate(self) -> OwnCertificate | None:
        """What renews this worker's certificate; None: it is the site's own, which FedNet cannot renew."""
        from fednet.security.renewal import OwnCertificate

        return None if self.credentials.given else OwnCertificate(self.credentials, lambda: datetime.now(UTC))

    def advice(self, told: str) -> str:
        """Return what people here must see to, or ""; `told`: `trust_digest` of the coordinator's authorities, or "".

        While those change over, a site that brings its own certificate must add the next one to its file by hand.
        """
        from fednet.security.authority import read_certificates
        from fednet.security.rotation import trust_digest

        file = self.credentials.authority_path
        if self.credentials.given is None or not told:
            return ""
        trusted = read_certificates(file)
        pairs = itertools.combinations(trusted, 2)
        if told in {trust_digest(some) for some in (*((each,) for each in trusted), *pairs)}:
            return ""
        return (
            f"Warning: the coordinator's authority changes over, and --ca {file} has not the next one: ask the centre "
            "for its authority/next/ca.pem and add it (and to worker.toml, where that names the old one, its "
            "fingerprint), or this worker cannot connect once the change is finished"
        )

    async def renew(self) -> datetime:
        """Renew the certificate over a connection of its own; return when the new one ends.

        Raises as `fednet.transport.tcp.connect`, `Refused`, or `CredentialError` where there is none that is good.
        """
        from fednet.protocol.messages import RenewalRefused, RenewalRequested, Renewed
        from fednet.security.enrolment import are_usable

        own = self.own_certificate
        if own is None or not are_usable(self.credentials, now=datetime.now(UTC)):
            raise self._no_certificate()
        link = await self.reach(begins=State.RENEWING)
        answer = await _answer(link, RenewalRequested(request=await asyncio.to_thread(own.request)), what="renewal")
        if isinstance(answer, RenewalRefused):
            raise Refused(answer.code, answer.reason)
        assert isinstance(answer, Renewed)
        return await asyncio.to_thread(own.store, answer.certificate, answer.authorities)

    def explain(self, exc: ssl.SSLError) -> FednetError:
        """Return what a failed TLS handshake means here."""
        from fednet.security.contexts import explain_tls_failure

        return explain_tls_failure(exc, host=self.host)

    def _must_enrol(self) -> bool:
        from fednet.security.enrolment import are_usable, trusts

        if self.credentials.given is not None:
            return False
        token = self._token or self._loopback_token()
        if token is not None and not trusts(self.credentials, token.authority_der):
            return True
        return not are_usable(self.credentials, now=datetime.now(UTC))

    def _loopback_token(self) -> JoinToken | None:
        from fednet.security.loopback import find_loopback_token, is_loopback

        return find_loopback_token(self._certs, self.port) if is_loopback(self.host) else None

    def _no_token(self) -> FednetError:
        from fednet.security.loopback import is_loopback

        if is_loopback(self.host):
            return ConnectionLost(
                f"no coordinator on this machine has left a token for port {self.port} in {self._certs}"
            )
        return self._no_certificate()

    def _no_certificate(self) -> CredentialError:
        from fednet.security.enrolment import ended_text

        return CredentialError(
            f"no valid certificate of {self.credentials.name} in {self._certs}",
            found=ended_text(self.credentials, now=datetime.now(UTC)),
            todo=f"ask the coordinating centre for `cli.py certs token {self.credentials.name}` and pass it as --token",
        )

    async def _enrol(self, token: JoinToken) -> None:
        from fednet.protocol.messages import Enrolled, EnrolRequested
        from fednet.security.contexts import enrolment_context
        from fednet.security.enrolment import make_request, store_certificate
        from fednet.security.identity import load_certificate

        name = self.credentials.name
        context = enrolment_context(token.authority_der)
        link = await self._opened(context, State.ENROLLING, [load_certificate(token.authority_der)])
        request = EnrolRequested(name=name, secret=token.secret, request=make_request(self.credentials))
        answer = await _answer(link, request, what="enrolment")
        assert isinstance(answer, Enrolled)
        store_certificate(self.credentials, answer.certificate, token.authority_der)


async def _answer(link: Link, question: Message, *, what: str) -> Message:
    """Return the one answer for which a link was opened, and end it; raises `Refused` for a goodbye in its place."""
    from fednet.protocol.messages import Goodbye

    try:
        link.send(question)
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            answer = await link.receive()
    except TimeoutError as exc:
        raise ConnectionLost(f"{link.peer} did not answer the {what} within {_ANSWER_WITHIN_S:.0f} s") from exc
    finally:
        link.abort(f"{what} is done")
    if isinstance(answer, Goodbye):
        raise Refused(answer.code, answer.reason)
    return answer


def proxy_for(host: str, port: int, option: str | None) -> Proxy | None:
    """Return the proxy to go through: the option's, or that of HTTPS_PROXY unless NO_PROXY or this machine is meant."""
    import urllib.request

    from fednet.security.loopback import is_loopback
    from fednet.transport.proxy import proxy_from

    if option is not None:
        return None if option == "none" else proxy_from(option)
    found = urllib.request.getproxies_environment().get("https")
    if not found or is_loopback(host) or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    try:
        return proxy_from(found)
    except BadInput as exc:
        raise BadInput("HTTPS_PROXY", expected=exc.expected, todo="correct it, or --proxy none goes without") from exc


def address_of(text: str | None, token: JoinToken | None) -> tuple[str, int]:
    """Return (host, port) of the coordinator: as asked for, or as the token says; raises `BadInput`."""
    if text is None:
        return (token.host, token.port) if token else (DEFAULT_HOST, DEFAULT_PORT)
    host, colon, port = text.rpartition(":")
    is_bare_ipv6 = host.count(":") >= 1 and not host.startswith("[")
    if not colon or is_bare_ipv6 or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536 or not host:
        raise BadInput(
            f"--coordinator {text}", expected="HOST or HOST:PORT, such as 10.0.0.5:7733 or [2001:db8::5]:7733"
        )
    return host.strip("[]"), int(port)
