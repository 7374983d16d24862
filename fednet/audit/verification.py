"""Checks a run's database against its signed chain: pure, from the rows as they were read to what is wrong with them.

The header that the coordinator signed is what everything else is held against. Where the signature does not hold, the
header itself is held against what it speaks of, so that the altered field is named and not only the record.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fednet.audit import merkle
from fednet.audit.evidence import RecordRow, RoundRow, RunRows, UpdateRow
from fednet.audit.findings import Finding, field_findings, mapping_in, parsed, plain
from fednet.audit.own_chain import CheckSignature
from fednet.audit.record import (
    NOTHING_BEFORE,
    canonical,
    digest_of_header,
    document_text,
    entry_of,
    read_header,
    settings_digest,
)
from fednet.config import run_settings_from
from fednet.errors import AuditError, BadInput

Fields = dict[str, Any]

_RESUMABLE = frozenset({"rounds", "reputation_window", "quarantine"})
"""Settings that `--resume` may change; the next round's record signs them."""


@dataclass(frozen=True, kw_only=True)
class CheckedRecord:
    """One record as it stands in the run, and what its round's document is."""

    round: int
    header: bytes
    signature: bytes
    certificate: bytes
    entries: tuple[bytes, ...]
    fields: Fields  # empty where the header cannot be read
    is_signed: bool
    document: Fields | None = None  # as the header vouches for it; None: none that it vouches for, or a beginning

    @cached_property
    def digest(self) -> str:
        """Return what the next record names as its predecessor."""
        return digest_of_header(self.header)

    @cached_property
    def entry_fields(self) -> tuple[Fields, ...]:
        """Return what the entries say, {} for one that cannot be read."""
        return tuple(mapping_in(entry) or {} for entry in self.entries)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What became of a check: no findings, and all is as it was signed."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]  # what is not covered, and why
    run: str
    settings: Fields | None  # as the last record vouches for them, or as they were changed since by a resume
    records: tuple[CheckedRecord, ...]  # first to last

    @property
    def documents(self) -> tuple[Fields, ...]:
        """Return the rounds' documents as far as they are vouched for."""
        return tuple(each.document for each in self.records if each.document is not None)


def verify(rows: RunRows, *, history: Mapping[str, Any] | None, check_signature: CheckSignature) -> Verified:
    """Check all rows; `history`: what `history.json` says, a second copy by which an altered field can be named."""
    if not rows.records:
        finding = Finding(field="record", found="no record", expected="one for the run's beginning")
        return Verified(findings=(finding,), notes=(), run=str(rows.run), settings=None, records=())
    opened = [_opened(row, check_signature) for row in rows.records]
    findings = list(itertools.chain.from_iterable(found for _, found in opened))
    records = [_with_document(record, rows, history) for record, _ in opened]
    settings, about_settings, notes = _settings(rows, records[-1], history)
    findings += about_settings
    findings += _sequence(records, rows)
    for before, record in itertools.pairwise([None, *records]):
        assert record is not None, "only the first has none before it"
        findings += _record_findings(record, before, rows, settings, history)
    first = records[0].round
    if first > 0:
        notes.append(f"rounds 1 to {first} are not covered: an older version ran them, the records begin after them")
    return Verified(
        findings=tuple(findings), notes=tuple(notes), run=_run_of(records, rows), settings=settings, records=tuple(records)
    )


def _run_of(records: Sequence[CheckedRecord], rows: RunRows) -> str:
    signed = [each.fields["run"] for each in records if each.is_signed]
    return str(signed[0] if signed else rows.run)


# One record by itself


def _opened(row: RecordRow, check_signature: CheckSignature) -> tuple[CheckedRecord, list[Finding]]:
    header, findings = _bytes(row.header), []
    fields: Fields = {}
    try:
        fields = read_header(header)
    except AuditError as exc:
        findings.append(Finding(round=row.round, field="header", found=str(exc).removeprefix("record: ")))
    is_signed, complaint = _signature(row, header, check_signature)
    findings += complaint
    texts = parsed(row.entries)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        texts = []
        findings.append(Finding(round=row.round, field="entries", found="no JSON list of texts"))
    record = CheckedRecord(
        round=row.round,
        header=header,
        signature=_bytes(row.signature),
        certificate=_bytes(row.certificate),
        entries=tuple(text.encode(errors="surrogatepass") for text in texts),
        fields=fields,
        is_signed=is_signed and bool(fields),
    )
    return record, findings


def _signature(row: RecordRow, header: bytes, check_signature: CheckSignature) -> tuple[bool, list[Finding]]:
    try:
        check_signature(header, _bytes(row.signature), _bytes(row.certificate))
    except AuditError as exc:
        field, _, found = str(exc).partition(": ")
        return False, [Finding(round=row.round, field=field, found=found)]
    return True, []


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


# All records in a row


def _sequence(records: Sequence[CheckedRecord], rows: RunRows) -> Iterator[Finding]:
    for before, record in itertools.pairwise(records):
        if record.round != before.round + 1:
            gap = f"no record of rounds {before.round + 1} to {record.round - 1}"
            yield Finding(round=before.round + 1, field="record", found=gap, expected="one of each round")
    committed, recorded = {row.round for row in rows.rounds}, {each.round for each in records}
    first = records[0].round
    for number in sorted(recorded - committed - {first}):
        yield Finding(round=number, field="rounds", found="no row", expected="the round of this record")
    for number in sorted(each for each in committed - recorded if each > first):
        yield Finding(round=number, field="record", found="none", expected="one for the committed round")


def _settings(
    rows: RunRows, last: CheckedRecord, history: Mapping[str, Any] | None
) -> tuple[Fields | None, list[Finding], list[str]]:
    """Return the run's settings, what is wrong with them, and what to note."""
    found, signed = mapping_in(rows.settings), last.fields.get("settings_sha256")
    if found is not None and settings_digest(found) == signed:
        return found, [], []
    witness = _copy_of(history, "settings")
    if witness is not None and settings_digest(witness) != signed:
        witness = None
    if found is not None and _were_changed_since(rows, last) and _could_be_resumed(found, witness):
        return found, [], [f"settings: changed by a resume after round {last.round}; the next record signs them"]
    if found is not None and witness is not None:
        return witness, field_findings(found, witness, round_number=last.round, within="settings."), []
    shown = plain(rows.settings) if found is None else settings_digest(found)
    field = "settings" if last.is_signed else "settings_sha256"
    finding = Finding(round=last.round, field=field, found=shown, expected=plain(signed))
    return witness or (None if last.is_signed else found), [finding], []


def _copy_of(history: Mapping[str, Any] | None, name: str) -> Fields | None:
    found = (history or {}).get(name)
    return found if isinstance(found, dict) else None


def _were_changed_since(rows: RunRows, last: CheckedRecord) -> bool:
    times = [row.committed_s for row in rows.rounds if row.round == last.round] or [rows.created_s]
    return any(
        isinstance(at, float) and isinstance(since, float) and at > since for at in rows.resumed_s for since in times
    )


def _could_be_resumed(found: Fields, before: Fields | None) -> bool:
    try:
        run_settings_from(found)
    except BadInput:
        return False
    names = found.keys() | (before or found).keys()
    return all(name in _RESUMABLE or found.get(name) == (before or found).get(name) for name in names)


# What a record says of its round


def _with_document(record: CheckedRecord, rows: RunRows, history: Mapping[str, Any] | None) -> CheckedRecord:
    """Return the record with its round's document: the row's, or the copy in `history.json`, as its hash decides."""
    wanted = record.fields.get("document_sha256")
    row = _row_of(record.round, rows)
    texts = [] if row is None else [_encoded(row.document)]
    copy = _document_in(history, record.round)
    texts += [] if copy is None else [document_text(copy)]
    if not record.is_signed and len(texts) == 2 and texts[0] == texts[1]:
        wanted = _sha256(texts[0])  # two copies against a header that nobody signed
    vouched = (mapping_in(text) for text in texts if _sha256(text) == wanted)
    return CheckedRecord(
        **{name: value for name, value in vars(record).items() if name in CheckedRecord.__dataclass_fields__}
        | {"document": next((each for each in vouched if each), None)}
    )


def _record_findings(
    record: CheckedRecord,
    before: CheckedRecord | None,
    rows: RunRows,
    settings: Fields | None,
    history: Mapping[str, Any] | None,
) -> list[Finding]:
    if not record.fields:
        return []  # said already; what it spoke of cannot be held against it
    said = _of_round(record.document) | _of_chain(record, before) | _of_run(rows, before, settings)
    ours = {name: record.fields[name] for name in said if name in record.fields}
    findings = field_findings(ours, said, round_number=record.round)
    row = None if before is None else _row_of(record.round, rows)
    if row is not None:
        findings += _row_findings(row, record)
        findings += _update_findings(record, rows.updates)
    elif before is None:
        findings += _beginning_findings(record, rows)
    return findings + _entry_findings(record)


def _of_chain(record: CheckedRecord, before: CheckedRecord | None) -> Fields:
    """Return what a header must say for its place in the chain."""
    found: Fields = {"round": record.round}
    if before is None:
        return found | {"previous": NOTHING_BEFORE, "model_before": record.fields["model_after"]}
    if before.is_signed or not record.is_signed:  # or what is wrong is the record before, which is said there
        found["previous"] = before.digest
        if before.fields:
            found["model_before"] = before.fields["model_after"]
    return found


def _of_run(rows: RunRows, before: CheckedRecord | None, settings: Fields | None) -> Fields:
    """Return what a header must say of the run."""
    found: Fields = {"run": rows.run if before is None or not before.fields else before.fields["run"]}
    if settings is not None:
        recipe = _recipe_of(settings)
        found |= {} if recipe is None or before is None else {"aggregator": recipe}
        found |= {} if rows.resumed_s else {"settings_sha256": settings_digest(settings)}
    if before is not None and "software" in before.fields and not rows.resumed_s:
        found["software"] = before.fields["software"]
    return found


def _recipe_of(settings: Fields) -> str | None:
    try:
        return run_settings_from(settings).recipe_name
    except BadInput:
        return None


def _of_round(document: Fields | None) -> Fields:
    """Return what a header must say of its round."""
    if document is None:
        return {}
    test = document.get("test")
    entries = _entries_of(document)
    return {
        "model_after": document.get("model_sha256"),
        "byzantine": document.get("byzantine"),
        "test": {name: test[name] for name in ("accuracy", "macro_f1", "loss") if name in test}
        if isinstance(test, dict)
        else {},
        "document_sha256": _sha256(document_text(document)),
        "entries": len(entries),
        "entries_root": merkle.Tree(entries).root.hex(),
    }


def _entries_of(document: Fields) -> tuple[bytes, ...]:
    try:
        return tuple(canonical(entry_of(update)) for update in document["updates"])
    except (KeyError, TypeError, ValueError):
        return ()


def _beginning_findings(record: CheckedRecord, rows: RunRows) -> list[Finding]:
    if "manifest" not in record.fields:
        return []
    return field_findings(
        {"manifest": rows.manifest}, {"manifest": record.fields["manifest"]}, round_number=record.round
    )


def _row_findings(row: RoundRow, record: CheckedRecord) -> list[Finding]:
    signed = record.fields["model_after"] if record.is_signed or record.document is None else None
    wanted = signed or (record.document or {}).get("model_sha256")
    findings = field_findings({"model_sha256": row.model_sha256}, {"model_sha256": wanted}, round_number=record.round)
    return findings + _document_findings(row, record)


def _document_findings(row: RoundRow, record: CheckedRecord) -> list[Finding]:
    text, number = _encoded(row.document), record.round
    if record.document is not None and text == document_text(record.document):
        return []
    found = mapping_in(row.document)
    if found is None:
        return [Finding(round=number, field="document", found="no JSON object", expected="what was signed")]
    fields = (
        _against_header(found, record)
        if record.document is None
        else field_findings(found, record.document, round_number=number)
    )
    whole = Finding(round=number, field="document", found=_sha256(text), expected=record.fields["document_sha256"])
    return fields or [whole]


def _against_header(found: Fields, record: CheckedRecord) -> list[Finding]:
    """Return where a document that is not the signed one disagrees with the header and the entries."""
    fields, number = record.fields, record.round
    signed = {"round": fields["round"], "model_sha256": fields["model_after"], "byzantine": fields.get("byzantine")}
    findings = field_findings({name: found.get(name) for name in signed}, signed, round_number=number)
    test, wanted = found.get("test"), fields.get("test")
    if isinstance(test, dict) and isinstance(wanted, dict):
        chosen = {name: test[name] for name in wanted if name in test}
        findings += field_findings(chosen, wanted, round_number=number, within="test.")
    ours = [mapping_in(entry) or {} for entry in _entries_of(found)]
    return findings + field_findings(ours, list(record.entry_fields), round_number=number, within="updates.")


def _entry_findings(record: CheckedRecord) -> list[Finding]:
    """Return where the entries are not what the header has the root of, field by field where the document tells."""
    root = merkle.Tree(record.entries).root.hex()
    is_whole = (len(record.entries), root) == (record.fields["entries"], record.fields["entries_root"])
    expected = _entries_of(record.document) if record.document is not None else None
    if expected is None or record.entries == expected:
        wrong = [] if is_whole else [_root_finding(record, root)]
        return wrong if expected is None else []  # with the document's own entries it is the header, which is said
    if len(record.entries) != len(expected):
        found, wanted = f"{len(record.entries)} of them", str(len(expected))
        return [Finding(round=record.round, field="entries", found=found, expected=wanted)]
    findings: list[Finding] = []
    for ours, theirs in zip(record.entries, expected, strict=True):
        found_fields, signed = mapping_in(ours), mapping_in(theirs) or {}
        name = f"entry of {plain(signed.get('worker'))}"
        if found_fields is None:
            findings.append(Finding(round=record.round, field=name, found="no JSON object"))
        else:
            findings += field_findings(found_fields, signed, round_number=record.round, within=f"{name}: ")
    return findings or [_root_finding(record, root)]


def _root_finding(record: CheckedRecord, root: str) -> Finding:
    return Finding(round=record.round, field="entries", found=root, expected=plain(record.fields["entries_root"]))


def _update_findings(record: CheckedRecord, updates: Sequence[UpdateRow]) -> list[Finding]:
    """Return where the rows of `updates` are not what the round's document says of them."""
    if record.document is None:
        return []
    rows = {plain(row.worker): row for row in updates if row.round == record.round}
    findings: list[Finding] = []
    for entry in (mapping_in(each) or {} for each in _entries_of(record.document)):
        name = plain(entry["worker"])
        row = rows.pop(name, None)
        if row is None:
            findings.append(Finding(round=record.round, field=f"update of {name}", found="no row"))
        else:
            findings += field_findings(
                _update_fields(row), _expected_update(entry), round_number=record.round, within=f"update of {name}: "
            )
    return findings + [
        Finding(round=record.round, field=f"update of {name}", found=f"a row ({plain(row.fate)}) that no entry is of")
        for name, row in rows.items()
        if row.fate is not None
    ]


def _update_fields(row: UpdateRow) -> Fields:
    return {name: getattr(row, name) for name in ("sha256", "samples", "fingerprint", "fate", "reason")}


def _expected_update(entry: Fields) -> Fields:
    return {
        "sha256": entry["update_sha256"],
        "samples": entry["samples"],
        "fingerprint": entry["certificate"],
        "fate": "selected" if entry["selected"] else "rejected",
        "reason": entry["reason"],
    }


def _row_of(number: int, rows: RunRows) -> RoundRow | None:
    return next((row for row in rows.rounds if row.round == number), None)


def _document_in(history: Mapping[str, Any] | None, number: int) -> Fields | None:
    rounds = (history or {}).get("rounds")
    found = [each for each in rounds if isinstance(each, dict)] if isinstance(rounds, list) else []
    return next((each for each in found if each.get("round") == number), None)


def _encoded(text: object) -> bytes:
    return text.encode(errors="surrogateescape") if isinstance(text, str) else b""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
