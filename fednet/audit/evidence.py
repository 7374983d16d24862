"""A run's database as it was read, before anything in it is believed: any value may be of any kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RecordRow:
    """One row of `audit`."""

    round: int
    header: object
    entries: object
    signature: object
    certificate: object


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """One row of `rounds`."""

    round: int
    committed_s: object
    checkpoint: object
    model_sha256: object
    document: object


@dataclass(frozen=True, kw_only=True)
class UpdateRow:
    """One row of `updates`: what became of it stands there from the round's commit on."""

    round: object
    worker: object
    sha256: object
    samples: object
    fingerprint: object
    fate: object
    reason: object


@dataclass(frozen=True, kw_only=True)
class RunRows:
    """Everything in the database that records vouch for."""

    run: object
    created_s: object
    settings: object
    manifest: object
    records: tuple[RecordRow, ...]  # by their rounds, as are the next two
    rounds: tuple[RoundRow, ...]
    updates: tuple[UpdateRow, ...]
    resumed_s: tuple[object, ...]  # seconds since 1970, UTC
