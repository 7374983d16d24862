"""Checks a run's chain against what one hospital wrote down of it: the coordinator alone cannot rewrite both. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fednet.audit import merkle
from fednet.audit.findings import Finding, field_findings, mapping_in, plain
from fednet.audit.own_chain import CheckSignature
from fednet.audit.record import read_header
from fednet.audit.verification import CheckedRecord
from fednet.errors import AuditError

Line = Mapping[str, Any]
"""One document of a worker's record log (fednet.worker.record_log)."""


@dataclass(frozen=True, kw_only=True)
class LogChecked:
    """What a hospital's log shows."""

    findings: tuple[Finding, ...]
    records: int  # that it was shown, headers that came in between among them
    acknowledged: int  # updates


def check_log(
    lines: Sequence[Line], records: Sequence[CheckedRecord], *, run: str, check_signature: CheckSignature
) -> LogChecked | None:
    """Return how a hospital's log and the run's records agree; None: the log says nothing of this run."""
    own = [line for line in lines if line.get("run") == run]
    if not own:
        return None
    by_round = {record.round: record for record in records}
    shown = [line for line in own if line.get("kind") in ("record", "header")]
    acknowledged = _acknowledged_in(own)
    findings = [each for line in shown for each in _shown_findings(line, by_round, check_signature)]
    for number, sha256 in acknowledged.items():
        findings += _acknowledged_findings(number, sha256, by_round)
    return LogChecked(findings=tuple(findings), records=len(shown), acknowledged=len(acknowledged))


def _acknowledged_in(own: Sequence[Line]) -> dict[object, object]:
    """Return round -> digest of the updates that the coordinator said it has, and did not give up again."""
    found: dict[object, object] = {}
    for line in own:
        if line.get("kind") == "acknowledged":
            found[line.get("round")] = line.get("sha256")
        elif line.get("kind") == "withdrawn":
            found.pop(line.get("round"), None)
    return found


def _shown_findings(line: Line, records: Mapping[int, CheckedRecord], check_signature: CheckSignature) -> list[Finding]:
    header = str(line.get("header", "")).encode(errors="surrogatepass")
    try:
        number = int(read_header(header)["round"])
    except AuditError as exc:
        return [Finding(file="the worker's log", field="header", found=str(exc))]
    record = records.get(number)
    if record is None:
        return [Finding(round=number, field="record", found="none", expected="the one that the hospital was shown")]
    if record.header != header:
        return [_other_record(line, header, number, check_signature)]
    if line["kind"] == "header":
        return []
    position = _position_of(line, record)
    expected = _as_shown(record, position)
    return field_findings({name: line.get(name) for name in expected}, expected, round_number=number, within="shown ")


def _other_record(line: Line, header: bytes, number: int, check_signature: CheckSignature) -> Finding:
    """Return the finding that the hospital has another record: with the coordinator's signature it is a proof."""
    try:
        signature, certificate = (bytes.fromhex(str(line.get(name, ""))) for name in ("signature", "certificate"))
        check_signature(header, signature, certificate)
    except (ValueError, AuditError):
        proof = ""
    else:
        proof = ", which the coordinator signed"
    return Finding(round=number, field="record", found=f"the hospital was shown another record{proof}")


def _position_of(line: Line, record: CheckedRecord) -> int | None:
    """Return which entry is this hospital's, by its name; None: it had none in this round."""
    own = mapping_in(line.get("entry"))
    names = [(mapping_in(entry) or {}).get("worker") for entry in record.entries]
    return names.index(own["worker"]) if own is not None and own.get("worker") in names else None


def _as_shown(record: CheckedRecord, position: int | None) -> dict[str, Any]:
    has_entry = position is not None
    return {
        "signature": record.signature.hex(),
        "certificate": record.certificate.hex(),
        "entry": record.entries[position or 0].decode(errors="replace") if has_entry else "",
        "position": position or 0,
        "path": merkle.Tree(record.entries).path(position or 0).hex() if has_entry else "",
    }


def _acknowledged_findings(number: object, sha256: object, records: Mapping[int, CheckedRecord]) -> list[Finding]:
    """Return what became of an acknowledged update: of a committed round it must have an entry."""
    record = records.get(number) if isinstance(number, int) else None
    if record is None:
        return []  # its round was not committed: it is still to count
    digests = {(mapping_in(entry) or {}).get("update_sha256") for entry in record.entries}
    if sha256 in digests:
        return []
    return [
        Finding(round=record.round, field="update_sha256", found="no entry", expected=f"{plain(sha256)}, acknowledged")
    ]
