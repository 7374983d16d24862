"""`worker join --ca --cert --key`: a certificate of the site's own authority, in place of enrolling with a token."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fednet.config import WorkerName
from fednet.errors import BadInput, CredentialError

if TYPE_CHECKING:
    from fednet.security.enrolment import GivenFiles

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path, dir_okay=False)


def own_certificate_options(function: F) -> F:
    """Add --ca, --cert and --key."""
    for option in (
        click.option("--key", type=_FILE, help="Its key (PEM, mode 0600, no passphrase)."),
        click.option("--cert", type=_FILE, help="This worker's certificate (PEM), of the site's own authority."),
        click.option("--ca", type=_FILE, help="The coordinator's authority (PEM), with --cert and --key."),
    ):
        function = option(function)
    return function


def given_files(ca: Path | None, cert: Path | None, key: Path | None, *, token: str | None) -> GivenFiles | None:
    """Return the files that all three options name, None without any; raises `BadInput`."""
    from fednet.security.enrolment import GivenFiles

    if ca is None and cert is None and key is None:
        return None
    if ca is None or cert is None or key is None:
        raise BadInput("--ca, --cert and --key", found="not all of them", expected="all three or none")
    if token is not None:
        raise BadInput(
            "--token", found="--cert as well", expected="one of them: a token is for a certificate of the centre's"
        )
    return GivenFiles(authority=ca, certificate=cert, key=key)


def name_in(given: GivenFiles, *, worker_id: WorkerName | None) -> WorkerName:
    """Return the worker that the certificate names, after a look at all three files; raises `CredentialError`."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from fednet.security.authority import read_certificate
    from fednet.security.contexts import worker_context
    from fednet.security.enrolment import Credentials
    from fednet.security.identity import Role, identity_of, identity_uri

    what = f"--cert {given.certificate}"
    certificate = read_certificate(given.certificate)
    try:
        identity = identity_of(certificate.public_bytes(Encoding.DER))
    except CredentialError as exc:
        expected = f"the URI {identity_uri(Role.WORKER, WorkerName('NAME'))} as subject alternative name"
        raise CredentialError(what, found=exc.found, expected=expected) from exc
    if identity.role is not Role.WORKER:
        raise CredentialError(what, found=f"a {identity.role.value}'s", expected="a worker's")
    if worker_id not in (None, identity.name):
        raise CredentialError(what, found=f"worker {identity.name}", expected=f"{worker_id}, by --id")
    if not certificate.not_valid_before_utc <= datetime.now(UTC) < identity.not_after:
        raise CredentialError(what, found=f"one that is not valid now (until {identity.not_after:%Y-%m-%d %H:%M} UTC)")
    worker_context(Credentials(identity.name, given.certificate.parent, given))
    return identity.name
