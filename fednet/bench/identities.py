"""Throw-away certificates for benches: an authority, a coordinator, and any number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fednet.config import WorkerName
from fednet.security.authority import open_or_create_authority
from fednet.security.enrolment import Credentials, credentials_in, make_request, store_certificate


def issue(folder: Path, workers: Sequence[WorkerName]) -> list[Credentials]:
    """Make an authority and a coordinator's certificate in `folder`, and each worker's; return the workers'."""
    now = datetime.now(UTC)
    authority = open_or_create_authority(folder, now=now)
    authority.ensure_coordinator([], now=now)
    issued = [credentials_in(folder, worker) for worker in workers]
    for credentials in issued:
        certificate = authority.sign_worker(make_request(credentials), credentials.name, now=now)
        store_certificate(credentials, certificate, authority.certificate_der)
    return issued
