"""What a hospital checks of each record that the coordinator shows it, against what it sent and what it knew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fednet.audit import merkle
from fednet.audit.record import digest_of_header, read_canonical, read_header
from fednet.errors import AuditError

CheckSignature = Callable[[bytes, bytes, bytes], None]
"""Checks (header, signature, certificate); raises `AuditError`."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A record as one hospital sees it."""

    header: bytes
    signature: bytes
    certificate: bytes
    entry: bytes  # its own; empty where it has none in this round
    position: int
    path: bytes  # the Merkle path, 32 bytes a hash


class OwnChain:
    """The chain as one hospital knows it: it may only grow.

    A record that follows the known one is taken at once. For one that is further on, `missing_after` names the round
    after which headers are needed; `extend` takes them.
    """

    def __init__(self, *, run: str, worker: str, check_signature: CheckSignature) -> None:
        self._run = run
        self._worker = worker
        self._check_signature = check_signature
        self.round = 0  # of the last record that is known; its digest is None while none is
        self.digest: str | None = None

    def restore(self, header: bytes) -> None:
        """Take up where an earlier process stopped, with the last record of its log."""
        fields = read_header(header)
        self.round, self.digest = fields["round"], digest_of_header(header)

    def is_known(self, shown: Shown) -> bool:
        """Whether this is the record that is known already; raises `AuditError` for another one of a known round."""
        number = read_header(shown.header)["round"]
        if self.digest is None or number > self.round:
            return False
        if number == self.round and digest_of_header(shown.header) == self.digest:
            return True
        raise AuditError(
            f"round {number}: the coordinator shows another record than before: its history was rewritten, or it was "
            f"set back to an older state"
        )

    def check_signature(self, shown: Shown) -> None:
        """Raise `AuditError` unless the coordinator signed this header: before anything is asked for on its account."""
        self._check_signature(shown.header, shown.signature, shown.certificate)

    def missing_after(self, shown: Shown) -> int | None:
        """Return the last known round where there are records between it and this one, else None."""
        number = read_header(shown.header)["round"]
        return self.round if self.digest is not None and number > self.round + 1 else None

    def extend(self, headers: Sequence[bytes]) -> None:
        """Take the headers that come next; the signature of the record they lead to vouches for them."""
        for header in headers:
            fields = read_header(header)
            self._check_place(fields)
            self.round, self.digest = fields["round"], digest_of_header(header)

    def take(self, shown: Shown, *, sent: str | None) -> dict[str, Any]:
        """Check the next record and remember it; return this hospital's entry, {} where it has none.

        `sent`: SHA-256 of the update that the coordinator acknowledged in that round, or None. Raises `AuditError`.
        """
        fields = read_header(shown.header)
        number = fields["round"]
        self._check_signature(shown.header, shown.signature, shown.certificate)
        if self.digest is not None:
            self._check_place(fields)
        elif fields["run"] != self._run:
            raise AuditError(f"round {number}: run is {fields['run']}, this is run {self._run}")
        entry = self._entry(shown, fields) if shown.entry else {}
        if sent is not None and entry.get("update_sha256") != sent:
            found = f"{entry['update_sha256'][:12]}..." if entry else "no update of this hospital"
            raise AuditError(f"round {number}: update_sha256 is {found}, acknowledged was {sent[:12]}...")
        self.round, self.digest = number, digest_of_header(shown.header)
        return entry

    def _check_place(self, fields: dict[str, Any]) -> None:
        number = fields["round"]
        if fields["run"] != self._run:
            raise AuditError(f"round {number}: run is {fields['run']}, this is run {self._run}")
        if number != self.round + 1:
            raise AuditError(f"round {number}: the record after round {self.round} was expected")
        if fields["previous"] != self.digest:
            raise AuditError(f"round {number}: previous is not the record of round {self.round} that this side knows")

    def _entry(self, shown: Shown, fields: dict[str, Any]) -> dict[str, Any]:
        number = fields["round"]
        try:
            expected = bytes.fromhex(fields["entries_root"])
        except ValueError as exc:
            raise AuditError(f"round {number}: entries_root cannot be read") from exc
        entry = read_canonical(shown.entry, what=f"round {number}: entry")
        if not merkle.leads_to(
            expected, shown.entry, position=shown.position, count=fields["entries"], path=shown.path
        ):
            raise AuditError(f"round {number}: entry is not part of the signed record (entries_root)")
        if not isinstance(entry, dict) or entry.get("worker") != self._worker:
            raise AuditError(f"round {number}: entry is another worker's")
        return entry
