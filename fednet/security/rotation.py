"""A planned change-over of the authority: the next one beside the present one, later in its place (RFC 4210, 4.4).

While it lasts both are trusted. Renewals are signed by the next authority and bring its certificate to the workers; the
coordinator's own certificate stays the present authority's until the end, so that every worker can verify it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fednet.errors import CredentialError
from fednet.security.authority import (
    CROSS,
    HOME,
    NEXT,
    Authority,
    is_issued_by,
    make_successor,
    open_authority,
    pem_of,
    read_certificate,
)
from fednet.security.identity import load_certificate
from fednet.security.keys import private_folder
from fednet.security.signing import fingerprint_of
from fednet.security.tokens import CertificateRow
from fednet.storage import disk
from fednet.storage.atomic import write_bytes

RETIRED = "authority/retired"


@dataclass(frozen=True, kw_only=True)
class Authorities:
    """The federation's own authorities, as far as certificates say; no key is needed to know them."""

    current: x509.Certificate
    successor: x509.Certificate | None  # while a change-over lasts
    cross: x509.Certificate | None  # the successor's key and name, signed by the current one
    retired: tuple[x509.Certificate, ...]  # records that were signed in their time still verify

    @property
    def trusted(self) -> list[x509.Certificate]:
        """Those whose certificates are good now."""
        return [self.current] if self.successor is None else [self.current, self.successor]

    @property
    def told(self) -> list[bytes]:
        """What a worker is told with a renewal, DER each: the trusted ones, and the proof for the successor."""
        return [_der(each) for each in (*self.trusted, self.cross) if each is not None]


def authorities_in(folder: Path) -> Authorities:
    """Return the authorities in `folder`; raises `CredentialError` where there is none."""
    successor, cross = folder / NEXT / "ca.pem", folder / NEXT / CROSS
    is_changing = successor.exists()
    return Authorities(
        current=read_certificate(folder / HOME / "ca.pem"),
        successor=read_certificate(successor) if is_changing else None,
        cross=read_certificate(cross) if is_changing else None,
        retired=tuple(read_certificate(path) for path in sorted((folder / RETIRED).glob("*.pem"))),
    )


def signing_authority(folder: Path, *, passphrase: bytes | None = None) -> Authority:
    """Return who signs renewals now: the successor while there is one."""
    has_successor = (folder / NEXT / "ca.key").exists()
    return open_authority(folder, place=NEXT if has_successor else HOME, passphrase=passphrase)


def begin(folder: Path, *, now: datetime, passphrase: bytes | None = None) -> None:
    """Make the next authority, its key encrypted as this one's; raises `CredentialError` where there is one already."""
    if not make_successor(open_authority(folder, passphrase=passphrase), folder, now=now):
        raise CredentialError(
            f"authority {folder / NEXT}", found="a change-over that has begun already", todo="see `certs rotate`"
        )


def finish(folder: Path, *, passphrase: bytes | None = None) -> None:
    """Put the next authority in the present one's place, and forget the present one's key.

    The key's rename decides: before it nothing has changed, after it `open_authority` completes what is missing. Raises
    `CredentialError` where no change-over has begun.
    """
    successor = folder / NEXT
    if not (successor / "ca.key").exists():
        raise CredentialError("certs rotate --finish", found="no change-over", todo="begin one: certs rotate --begin")
    open_authority(folder, place=NEXT, passphrase=passphrase)  # a damaged one must not replace a good one
    present = read_certificate(folder / HOME / "ca.pem")
    private_folder(folder / RETIRED)
    write_bytes(folder / RETIRED / f"{fingerprint_of(present)[:16]}.pem", pem_of([present]))
    disk.rename(successor / "ca.key", folder / HOME / "ca.key")
    disk.sync_folder(folder / HOME)
    open_authority(folder, passphrase=passphrase)


def laggards(certificates: Iterable[CertificateRow], successor: x509.Certificate, *, now: datetime) -> list[str]:
    """Return who has certificates that are still good, and has shown none by the successor. Pure.

    One that was signed may never have arrived: its worker has it once it has connected with it.
    """
    good = [row for row in certificates if row.expires > now and not row.revoked]
    ready = {row.name for row in good if row.was_shown and row.authority == fingerprint_of(successor)}
    return sorted({row.name for row in good} - ready)


def vouched(
    told: Sequence[bytes], trusted: Sequence[x509.Certificate]
) -> tuple[list[x509.Certificate], list[x509.Certificate]]:
    """Return (the authorities among what a coordinator tells of them, by what those that are trusted vouch for them).

    The coordinator's word is not enough: whoever stole its key must not be able to set up an authority. Raises
    `CredentialError`.
    """
    certificates = [load_certificate(each) for each in told]
    authorities = [each for each in certificates if is_issued_by(each, each)]
    proven = [each for each in certificates if any(is_issued_by(each, one) for one in trusted) and may_sign(each)]
    for each in authorities:
        is_proven = any((one.subject, one.public_key()) == (each.subject, each.public_key()) for one in proven)
        if each not in trusted and not (is_proven and may_sign(each)):
            raise CredentialError(
                "renewed certificate",
                found=f"an authority with it that none known here has signed ({fingerprint_of(each)[:16]}...)",
                todo="ask the coordinating centre; a new --token makes a new beginning",
            )
    return authorities, [each for each in proven if each not in authorities]


def trust_digest(authorities: Iterable[x509.Certificate]) -> str:
    """Return a SHA-256, hex, by which two sides compare whom they trust; the order is of no matter."""
    return hashlib.sha256("".join(sorted(fingerprint_of(each) for each in authorities)).encode()).hexdigest()


def may_sign(certificate: x509.Certificate) -> bool:
    """Whether this is an authority's certificate."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
