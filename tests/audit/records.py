"""Signed records of a small run, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fednet.audit.merkle import Tree
from fednet.audit.own_chain import Shown
from fednet.audit.record import NOTHING_BEFORE, SignedRecord, canonical, make_header
from fednet.errors import AuditError
from fednet.protocol.messages import RoundClosed

RUN = "run"
CLAIMS = {"selected": True, "samples": 7, "weight": 0.5, "reason": ""}


def sign(header: bytes) -> bytes:
    """Sign as nobody could check but these tests."""
    return hashlib.sha256(b"signed " + header).digest()


def check(header: bytes, signature: bytes, certificate: bytes) -> None:
    """Check what `sign` made."""
    if signature != sign(header):
        raise AuditError("signature: not the coordinator's under this header")


def digest(text: str) -> str:
    """Return any text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def record(
    number: int, previous: SignedRecord | None, updates: Mapping[str, str], *, run: str = RUN, note: str = ""
) -> SignedRecord:
    """Return a round's record; `updates`: worker -> digest of its update."""
    entries = tuple(
        canonical({"worker": worker, "update_sha256": sha256, **CLAIMS}) for worker, sha256 in sorted(updates.items())
    )
    header = make_header(
        run=run,
        round_number=number,
        previous=previous.digest if previous else NOTHING_BEFORE,
        entries=entries,
        model_before=digest(f"model {number - 1}"),
        model_after=digest(f"model {number}"),
        document=b"{}",
        settings={},
        facts={"note": note},
    )
    return SignedRecord(header=header, entries=entries, signature=sign(header), certificate=b"certificate")


def chain(*rounds: Mapping[str, str]) -> list[SignedRecord]:
    """Return the records of a whole run, its beginning first."""
    records = [record(0, None, {})]
    for number, updates in enumerate(rounds, start=1):
        records.append(record(number, records[-1], updates))
    return records


def shown(found: SignedRecord, position: int | None) -> Shown:
    """Return a record as the worker of this entry sees it."""
    return Shown(
        header=found.header,
        signature=found.signature,
        certificate=found.certificate,
        entry=b"" if position is None else found.entries[position],
        position=position or 0,
        path=b"" if position is None else Tree(found.entries).path(position),
    )


def closing(found: SignedRecord, position: int | None, **changes: Any) -> RoundClosed:
    """Return the message that shows it."""
    fields: dict[str, Any] = {
        "round": found.round,
        "verdict": "absent" if position is None else "selected",
        "reason": "",
        "weight": 0.5,
        "metrics": {},
        **vars(shown(found, position)),
    }
    return RoundClosed(**(fields | changes))


def headers(records: Sequence[SignedRecord]) -> list[bytes]:
    """Return the headers alone."""
    return [each.header for each in records]
