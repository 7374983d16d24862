"""One record of the chain: what a round did, as bytes that are hashed and signed.

The header names everything by value or by hash, the previous header among it; so the last header vouches for all
before. What concerns one hospital only (its samples, its score) stands in an entry of its own, of which the header has
the Merkle root: each hospital is shown its own entry and the path that proves its place, and learns nothing of the
others'. No entry can be guessed from its hash: it holds the digest of an update that only its sender and the
coordinator know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from fednet.audit import merkle
from fednet.errors import AuditError

FORMAT = "fednet-audit-1"
MAX_ROUND = 10**6
CHOSEN_METRICS = ("accuracy", "macro_f1", "loss")
"""What of the test set's metrics a record and its hospitals are told."""
NOTHING_BEFORE = "0" * 64
"""What the first record names as its predecessor."""


class Signer(Protocol):
    """Signs as the coordinator (fednet.security.signing)."""

    certificate_der: bytes

    def sign(self, header: bytes) -> bytes:
        """Return the signature of some bytes, DER."""


@dataclass(frozen=True, kw_only=True)
class SignedRecord:
    """A record with everything that proves it."""

    header: bytes  # canonical JSON
    entries: tuple[bytes, ...]  # canonical JSON each, by the workers' names
    signature: bytes  # of the header: ECDSA on P-256 with SHA-256, DER
    certificate: bytes  # the signer's, DER

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Return what the header says; raises `AuditError` where it is no header."""
        return read_header(self.header)

    @property
    def round(self) -> int:
        """Return the round after which the record was made; 0: the run's beginning."""
        return int(self.fields["round"])

    @property
    def digest(self) -> str:
        """Return what the next record names as its predecessor."""
        return digest_of_header(self.header)


def canonical(document: Any) -> bytes:
    """Return the one JSON encoding of a document: sorted keys, no white space, UTF-8, no NaN (as in RFC 8785)."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def document_text(document: Mapping[str, Any]) -> bytes:
    """Return a round's document as the database keeps it: what its record's hash is of."""
    return json.dumps(document).encode()


def entry_of(update: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of one update, from the round's document."""
    return {
        "worker": update["worker"],
        "certificate": update["fingerprint"],
        "update_sha256": update["sha256"],
        "samples": update["samples"],
        "score": update["score"],
        "selected": update["selected"],
        "weight": update["weight"],
        "reason": update["reason"],
    }


def settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 by which a record names the run's settings, hex."""
    return hashlib.sha256(canonical(settings)).hexdigest()


def read_canonical(content: bytes, *, what: str) -> Any:
    """Return what a canonical encoding says; raises `AuditError` for any other bytes, whatever they decode to."""
    try:
        document = json.loads(content)
        is_canonical = canonical(document) == content
    except (ValueError, RecursionError) as exc:
        raise AuditError(f"{what} is no JSON") from exc
    if not is_canonical:
        raise AuditError(f"{what} is not in its canonical form")
    return document


def digest_of_header(header: bytes) -> str:
    """Return a header's SHA-256, hex."""
    return hashlib.sha256(header).hexdigest()


def make_header(
    *,
    run: str,
    round_number: int,
    previous: str,
    entries: Sequence[bytes],
    model_before: str,
    model_after: str,
    document: bytes,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> bytes:
    """Return a record's header.

    `previous`: digest of the header before, or `NOTHING_BEFORE`; `model_*`: SHA-256 of the flat global model, hex;
    `document`: the round as the run's database keeps it; `facts`: plain JSON for people (aggregator, metrics, ...).
    """
    return canonical(
        {
            **facts,
            "format": FORMAT,
            "run": run,
            "round": round_number,
            "previous": previous,
            "model_before": model_before,
            "model_after": model_after,
            "entries": len(entries),
            "entries_root": merkle.Tree(entries).root.hex(),
            "document_sha256": hashlib.sha256(document).hexdigest(),
            "settings_sha256": settings_digest(settings),
        }
    )


_TYPES: Mapping[str, type] = {
    "format": str,
    "run": str,
    "round": int,
    "previous": str,
    "model_before": str,
    "model_after": str,
    "entries": int,
    "entries_root": str,
    "document_sha256": str,
    "settings_sha256": str,
}


def read_header(header: bytes) -> dict[str, Any]:
    """Return a header's fields; raises `AuditError` naming what is wrong with it."""
    fields = read_canonical(header, what="record: header")
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise AuditError(f"record: header is not of format {FORMAT}")
    for name, expected in _TYPES.items():
        if type(fields.get(name)) is not expected:
            raise AuditError(f"record: header has no usable {name}")
    if not 0 <= fields["round"] <= MAX_ROUND:
        raise AuditError("record: header has no usable round")
    return fields
