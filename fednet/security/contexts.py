"""TLS contexts: 1.3 only, our own authority only, no session tickets; and what a failed handshake means."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from fednet.errors import CredentialError
from fednet.security.authority import pem_of
from fednet.security.enrolment import Credentials, settled
from fednet.security.keys import refuse_readable_by_others
from fednet.security.trusted import known_authorities


def coordinator_context(folder: Path) -> ssl.SSLContext:
    """Return the context of the coordinator's one port.

    A client certificate is asked for and, when given, verified against our authorities and those of sites that are
    trusted: for which names, `KnownAuthorities` decides. A connection without one gets through the handshake, because
    enrolment needs it; the protocol lets it do nothing else.
    """
    known = known_authorities(folder)
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cadata=pem_of(known.certificates).decode())
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a site's authority may stand beneath one we do not know
    _load_own(context, folder / "coordinator" / "cert.pem", folder / "coordinator" / "key.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0  # resumption would let a revoked certificate back in
    return context


def page_context(folder: Path) -> ssl.SSLContext:
    """Return the context of a web page, with the coordinator's certificate; browsers have none to show.

    When the certificate has been renewed, the next handshake has the new one.
    """
    context = newest = _page_context(folder)
    seen = _stamp(folder)

    def renew(connection: ssl.SSLObject, name: str | None, before: ssl.SSLContext) -> None:
        nonlocal newest, seen
        with contextlib.suppress(CredentialError, OSError):  # one of two files is new, and the other is about to be
            if (now := _stamp(folder)) != seen:
                newest, seen = _page_context(folder), now
        connection.context = newest

    context.sni_callback = renew
    return context


def _page_context(folder: Path) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load_own(context, folder / "coordinator" / "cert.pem", folder / "coordinator" / "key.pem")
    return context


def _stamp(folder: Path) -> tuple[int, int]:
    """Return when the coordinator's certificate was put there: it is never written in place, and after its key."""
    status = (folder / "coordinator" / "cert.pem").stat()
    return status.st_mtime_ns, status.st_ino


def worker_context(credentials: Credentials) -> ssl.SSLContext:
    """Return the context of a worker that has a certificate; the coordinator's name or address is verified."""
    authority = credentials.authority_path
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=authority)
    except (OSError, ssl.SSLError) as exc:
        raise CredentialError(f"authority {authority}", found="no readable certificate") from exc
    with settled(credentials):
        _load_own(context, credentials.certificate_path, credentials.key_path)
    return context


def enrolment_context(authority_der: bytes) -> ssl.SSLContext:
    """Return the context of a worker without a certificate, which trusts the authority of its token alone.

    Raises `CredentialError` when the token's authority is no certificate.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=authority_der)
    except (ValueError, ssl.SSLError) as exc:
        raise CredentialError("join token", found="no certificate in it", todo="ask the centre for a new one") from exc
    return context


def explain_tls_failure(exc: ssl.SSLError, *, host: str) -> CredentialError:
    """Return a line that a hospital's engineer can act on."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        text = exc.verify_message
        if "mismatch" in text:
            todo = f"start the coordinator with --public-host {host}, or use a name that is in its certificate"
            return CredentialError("coordinator's certificate", found=f"not for {host}", todo=todo)
        if "expired" in text or "not yet valid" in text:
            return CredentialError(
                "coordinator's certificate",
                found=text,
                todo="check both clocks; a coordinator renews its certificate when it starts",
            )
        if "purpose" in text:
            todo = "check the address: a worker's certificate must never serve as a coordinator's"
            return CredentialError(f"coordinator at {host}", found="a certificate of another role there", todo=todo)
        return CredentialError(
            f"coordinator at {host}",
            found="a certificate of another authority than this worker enrolled with",
            todo="check the address, or join with --token and a new token of that coordinator",
        )
    reason = exc.reason or str(exc)
    if "VERSION" in reason:
        return CredentialError(f"coordinator at {host}", found=f"no TLS 1.3 there ({reason})", todo="check the port")
    if "CERTIFICATE" in reason or "UNKNOWN_CA" in reason:
        todo = "join with --token and a new token of that coordinator"
        return CredentialError("this worker's certificate", found=f"refused by the coordinator ({reason})", todo=todo)
    return CredentialError(f"TLS with {host}", found=reason, todo="check address, port and certificates")


def _context(purpose: int) -> ssl.SSLContext:
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    refuse_readable_by_others(key)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)  # else OpenSSL asks at the terminal
    except (OSError, ssl.SSLError) as exc:
        raise CredentialError(
            f"certificate {certificate}",
            found="not usable with its key",
            todo="start again: a new one is made; one of your own needs its own key, without a passphrase",
        ) from exc


def _no_passphrase() -> str:
    return ""
