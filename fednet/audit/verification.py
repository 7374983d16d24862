"""Checks a run's database against its signed chain: pure, from the rows as they were read to what is wrong with them.

The header that the coordinator signed is what everything else is held against. Where the signature does not hold, the
header is held against what it speaks of, so that the altered field is named and not only the record.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fednet.audit import merkle
from fednet.audit.evidence import RecordRow, RoundRow, RunRows, UpdateRow
from fednet.audit.findings import Finding, field_findings, mapping_in, parsed, plain
from fednet.audit.own_chain import CheckSignature
from fednet.audit.record import (
    CHOSEN_METRICS,
    NOTHING_BEFORE,
    canonical,
    digest_of_header,
    document_text,
    entry_of,
    read_header,
    settings_digest,
)
from fednet.config import RESUMABLE, run_settings_from
from fednet.errors import AuditError, BadInput

Fields = dict[str, Any]

_UPDATE_COLUMNS = ("sha256", "samples", "fingerprint", "fate", "reason")


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
    document: Fields | None = None  # as the header vouches for it; None at a beginning, or where nothing fits

    @cached_property
    def digest(self) -> str:
        """Return what the next record names as its predecessor."""
        return digest_of_header(self.header)

    @property
    def model_sha256(self) -> str:
        """Return the model after the round: as the header says, or where nobody signed that, as the document does."""
        document = self.document or {}
        return str(
            self.fields["model_after"] if self.is_signed else document.get("model_sha256", self.fields["model_after"])
        )


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a check came to: no findings, and all is as it was signed."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]  # what is not covered, and why
    run: str
    settings: Fields | None  # as the last record vouches for them, or as a resume has changed them since
    records: tuple[CheckedRecord, ...]  # first to last
    committed: int  # rounds

    @cached_property
    def documents(self) -> tuple[Fields, ...]:
        """Return the rounds' documents as far as they are vouched for, first to last."""
        return tuple(each.document for each in self.records if each.document is not None)

    @property
    def knows_all_rounds(self) -> bool:
        """Whether every committed round has a document that is vouched for."""
        return len(self.documents) == self.committed


def verify(rows: RunRows, *, history: Mapping[str, Any] | None, check_signature: CheckSignature) -> Verified:
    """Check all rows; `history`: what `history.json` says, a second copy by which an altered field can be named."""
    if not rows.records:
        none = Finding(field="record", found="none", expected="one for the run's beginning")
        return Verified(
            findings=(none,), notes=(), run=plain(rows.run), settings=None, records=(), committed=len(rows.rounds)
        )
    opened = [_opened(row, check_signature) for row in rows.records]
    index = _Index(rows, history)
    records = [index.with_document(record) for record, _ in opened]
    settings = _settings(rows, records[-1], index)
    said = _said_alike(records, rows, settings.found)
    findings = [each for _, found in opened for each in found] + settings.findings
    findings += _sequence(records, rows)
    findings += _beginning(records[0], said, index)
    for before, record in itertools.pairwise(records):
        findings += _round(record, before, said, index)
    return Verified(
        findings=tuple(findings),
        notes=(*settings.notes, *_uncovered(records[0])),
        run=said["run"],
        settings=settings.found,
        records=tuple(records),
        committed=len(rows.rounds),
    )


def _uncovered(first: CheckedRecord) -> list[str]:
    if first.round == 0:
        return []
    return [f"rounds 1 to {first.round} are not covered: an older version ran them, the records begin after them"]


class _Index:
    """The rows by their rounds, and the rounds' documents in `history.json`."""

    def __init__(self, rows: RunRows, history: Mapping[str, Any] | None) -> None:
        self.rows = rows
        self.rounds = {row.round: row for row in rows.rounds}
        self.updates: defaultdict[object, list[UpdateRow]] = defaultdict(list)
        for row in rows.updates:
            self.updates[row.round].append(row)
        settings, rounds = (history or {}).get("settings"), (history or {}).get("rounds")
        self.settings_copy = settings if isinstance(settings, dict) else None
        copies = [each for each in rounds if isinstance(each, dict)] if isinstance(rounds, list) else []
        self._copies = {each.get("round"): each for each in copies if isinstance(each.get("round"), int)}

    def with_document(self, record: CheckedRecord) -> CheckedRecord:
        """Return the record with its round's document: the row's, or its copy, as the header's hash decides."""
        row, copy = self.rounds.get(record.round), self._copies.get(record.round)
        texts = [_encoded(row.document)] if row is not None else []
        texts += [document_text(copy)] if copy is not None else []
        wanted = record.fields.get("document_sha256")
        if not record.is_signed and len(texts) == 2 and texts[0] == texts[1]:
            wanted = _sha256(texts[0])  # two copies against a header that nobody signed
        vouched = (mapping_in(text) for text in texts if _sha256(text) == wanted)
        return replace(record, document=next((each for each in vouched if each), None))


# One record by itself


def _opened(row: RecordRow, check_signature: CheckSignature) -> tuple[CheckedRecord, list[Finding]]:
    findings: list[Finding] = []
    header, signature, certificate = (_bytes(each) for each in (row.header, row.signature, row.certificate))
    fields: Fields = {}
    try:
        fields = read_header(header)
    except AuditError as exc:
        findings.append(Finding(round=row.round, field="header", found=str(exc).removeprefix("record: ")))
    try:
        check_signature(header, signature, certificate)
    except AuditError as exc:
        field, _, found = str(exc).partition(": ")
        findings.append(Finding(round=row.round, field=field, found=found))
    is_signed = not findings
    texts = parsed(row.entries)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        findings.append(Finding(round=row.round, field="entries", found="no JSON list of texts"))
        texts = []
    record = CheckedRecord(
        round=row.round,
        header=header,
        signature=signature,
        certificate=certificate,
        entries=tuple(text.encode(errors="surrogatepass") for text in texts),
        fields=fields,
        is_signed=is_signed,
    )
    return record, findings


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


# All records together


def _sequence(records: Sequence[CheckedRecord], rows: RunRows) -> Iterator[Finding]:
    for before, record in itertools.pairwise(records):
        if record.round != before.round + 1:
            gap = f"none of rounds {before.round + 1} to {record.round - 1}"
            yield Finding(round=before.round + 1, field="record", found=gap, expected="one of each round")
    committed, recorded = {row.round for row in rows.rounds}, {each.round for each in records}
    for number in sorted(recorded - committed - {records[0].round}):
        yield Finding(round=number, field="rounds", found="no row", expected="the round of this record")
    for number in sorted(each for each in committed - recorded if each > records[-1].round):
        yield Finding(round=number, field="record", found="none", expected="one for the committed round")


def _said_alike(records: Sequence[CheckedRecord], rows: RunRows, settings: Fields | None) -> Fields:
    """Return what every header must say of the run; what a resume may change only where there was none."""
    signed = [each.fields for each in records if each.is_signed]
    said: Fields = {"run": str(signed[0]["run"] if signed else rows.run)}
    recipe = None if settings is None else _recipe_of(settings)
    if recipe is not None:
        said["aggregator"] = recipe
    if not rows.resumed_s:
        said |= {} if settings is None else {"settings_sha256": settings_sha256(settings)}
        said |= {"software": signed[0]["software"]} if signed and "software" in signed[0] else {}
    return said


def _recipe_of(settings: Fields) -> str | None:
    try:
        return run_settings_from(settings).recipe_name
    except BadInput:
        return None


@dataclass(frozen=True)
class _Settings:
    found: Fields | None
    findings: list[Finding]
    notes: list[str]


def _settings(rows: RunRows, last: CheckedRecord, index: _Index) -> _Settings:
    """Return the settings that the run goes by, and whether they are the signed ones."""
    found, signed, copy = mapping_in(rows.settings), last.fields.get("settings_sha256"), index.settings_copy
    if found is not None and settings_sha256(found) == signed:
        return _Settings(found, [], [])
    if found is not None and not last.is_signed and copy in (None, found):
        return _Settings(found, [], [])  # it is the header: its signature says so
    witness = copy if copy is not None and settings_sha256(copy) == signed else None
    if found is not None and _changed_since(rows, last, index) and _could_be_resumed(found, witness or found):
        return _Settings(found, [], [f"settings: changed by a resume after round {last.round}, not signed yet"])
    if found is not None and witness is not None:
        return _Settings(witness, field_findings(found, witness, round_number=last.round, within="settings."), [])
    shown = plain(rows.settings if found is None else settings_sha256(found))
    return _Settings(witness, [Finding(round=last.round, field="settings", found=shown, expected=plain(signed))], [])


def settings_sha256(settings: Fields) -> str | None:
    """Return the digest by which a record names these settings; None of what is no plain JSON."""
    try:
        return settings_digest(settings)
    except ValueError:
        return None


def _changed_since(rows: RunRows, last: CheckedRecord, index: _Index) -> bool:
    row = index.rounds.get(last.round)
    since = rows.created_s if row is None else row.committed_s
    return isinstance(since, float) and any(isinstance(at, float) and at > since for at in rows.resumed_s)


def _could_be_resumed(found: Fields, before: Fields) -> bool:
    if _recipe_of(found) is None:
        return False
    return all(name in RESUMABLE or found.get(name) == before.get(name) for name in found.keys() | before.keys())


# A record and its round


def _beginning(first: CheckedRecord, said: Fields, index: _Index) -> list[Finding]:
    """Return what is wrong with the first record: the run's beginning, or where an older version's run went on."""
    fields, number = first.fields, first.round
    if not fields:
        return []
    if first.is_signed and fields["previous"] != NOTHING_BEFORE:
        missing = Finding(round=number - 1, field="record", found="none", expected=f"the one before round {number}'s")
        return [missing, *_of_round(first, said, index)]
    beginning = {"previous": NOTHING_BEFORE, "model_before": fields["model_after"], "round": number}
    nothing = {"document_sha256": _sha256(document_text({})), "entries": 0, "entries_root": merkle.Tree(()).root.hex()}
    findings = _header_findings(first, beginning | nothing | said)
    table = {"run": index.rows.run, "manifest": index.rows.manifest}
    signed = {"run": said["run"], "manifest": fields.get("manifest", index.rows.manifest)}
    findings += field_findings(table, signed, round_number=number)
    row = index.rounds.get(number)
    if row is not None:
        findings += _model_findings(row, first.model_sha256)
    return findings


def _round(record: CheckedRecord, before: CheckedRecord, said: Fields, index: _Index) -> list[Finding]:
    """Return what is wrong with a round: its record in the chain, and what the record speaks of."""
    if not record.fields:
        return []  # said already, and nothing can be held against it
    place: Fields = {}
    if before.is_signed or not record.is_signed:  # else it is the record before that was changed, which is said there
        place["previous"] = before.digest
        place |= {"model_before": before.fields["model_after"]} if before.fields else {}
    return _header_findings(record, place) + _of_round(record, said, index)


def _of_round(record: CheckedRecord, said: Fields, index: _Index) -> list[Finding]:
    findings = _header_findings(record, said | {"round": record.round} | _said_by(record.document))
    row = index.rounds.get(record.round)
    if row is not None:
        findings += _model_findings(row, record.model_sha256)
        findings += _document_findings(row, record)
    findings += _entry_findings(record)
    if record.document is not None:
        findings += _update_findings(record.round, record.document, index.updates[record.round])
    return findings


def _header_findings(record: CheckedRecord, expected: Fields) -> list[Finding]:
    ours = {name: record.fields[name] for name in expected if name in record.fields}
    return field_findings(ours, {name: expected[name] for name in ours}, round_number=record.round)


def _said_by(document: Fields | None) -> Fields:
    """Return what a header must say of the round that this is the document of."""
    if document is None:
        return {}
    test = document.get("test")
    entries = _entries_of(document)
    return {
        "model_after": document.get("model_sha256"),
        "byzantine": document.get("byzantine"),
        "test": _only(test if isinstance(test, dict) else {}, CHOSEN_METRICS),
        "document_sha256": _sha256(document_text(document)),
        "entries": len(entries),
        "entries_root": merkle.Tree(entries).root.hex(),
    }


def _entries_of(document: Fields) -> tuple[bytes, ...]:
    try:
        return tuple(canonical(entry_of(update)) for update in document["updates"])
    except (KeyError, TypeError, ValueError):
        return ()


def _model_findings(row: RoundRow, expected: object) -> list[Finding]:
    return field_findings({"model_sha256": row.model_sha256}, {"model_sha256": expected}, round_number=row.round)


def _document_findings(row: RoundRow, record: CheckedRecord) -> list[Finding]:
    """Return where the row's document is not the signed one: by its fields if they can be told, else as a whole."""
    text, found, number = _encoded(row.document), mapping_in(row.document), record.round
    if _sha256(text) == record.fields["document_sha256"] or (
        record.document and text == document_text(record.document)
    ):
        return []
    if found is None:
        return [Finding(round=number, field="document", found="no JSON object", expected="what was signed")]
    if record.document is not None:
        fields = field_findings(found, record.document, round_number=number)
    else:
        fields = _against_header(found, record)
    field = "document" if record.is_signed else "document_sha256"
    whole = Finding(round=number, field=field, found=_sha256(text), expected=record.fields["document_sha256"])
    return fields or [whole]


def _against_header(found: Fields, record: CheckedRecord) -> list[Finding]:
    """Return where a document that is not the signed one disagrees with the header and the entries."""
    fields, number = record.fields, record.round
    signed = {"round": fields["round"], "model_sha256": fields["model_after"], "byzantine": fields.get("byzantine")}
    findings = field_findings(_only(found, signed), signed, round_number=number)
    test, wanted = found.get("test"), fields.get("test")
    if isinstance(test, dict) and isinstance(wanted, dict):
        findings += field_findings(_only(test, wanted), wanted, round_number=number, within="test.")
    ours = [mapping_in(entry) for entry in _entries_of(found)]
    entries = [mapping_in(entry) for entry in record.entries]
    return findings + field_findings(ours, entries, round_number=number, within="updates.")


def _entry_findings(record: CheckedRecord) -> list[Finding]:
    """Return where the entries are not what the header has the root of, by their fields if the document tells them."""
    root, number = merkle.Tree(record.entries).root.hex(), record.round
    whole = Finding(round=number, field="entries", found=root, expected=plain(record.fields["entries_root"]))
    if record.document is None:
        return [] if root == record.fields["entries_root"] else [whole]
    expected = _entries_of(record.document)
    if record.entries == expected:
        return []  # the header may have another root: then that is what is said
    if len(record.entries) != len(expected):
        count = f"{len(record.entries)} of them"
        return [Finding(round=number, field="entries", found=count, expected=str(len(expected)))]
    pairs = zip(record.entries, expected, strict=True)
    return [each for ours, signed in pairs for each in _one_entry(number, ours, signed)] or [whole]


def _one_entry(number: int, entry: bytes, signed: bytes) -> list[Finding]:
    found, expected = mapping_in(entry), mapping_in(signed) or {}
    name = f"entry of {plain(expected.get('worker'))}"
    if found is None:
        return [Finding(round=number, field=name, found="no JSON object")]
    return field_findings(found, expected, round_number=number, within=f"{name}: ")


def _update_findings(number: int, document: Fields, rows: Sequence[UpdateRow]) -> list[Finding]:
    """Return where the rows of `updates` are not what the round's document says of them."""
    left = {plain(row.worker): row for row in rows}
    findings: list[Finding] = []
    for entry in _entries_of(document):
        fields = mapping_in(entry) or {}
        name = plain(fields.get("worker"))
        row = left.pop(name, None)
        if row is None:
            findings.append(Finding(round=number, field=f"update of {name}", found="no row", expected="its row"))
            continue
        found = {column: getattr(row, column) for column in _UPDATE_COLUMNS}
        findings += field_findings(found, _row_for(fields), round_number=number, within=f"update of {name}: ")
    stray = [name for name, row in left.items() if row.fate is not None]  # without a fate it came too late
    return findings + [
        Finding(round=number, field=f"update of {name}", found="a row", expected="none: no entry is of it")
        for name in stray
    ]


def _row_for(entry: Fields) -> Fields:
    return {
        "sha256": entry["update_sha256"],
        "samples": entry["samples"],
        "fingerprint": entry["certificate"],
        "fate": "selected" if entry["selected"] else "rejected",
        "reason": entry["reason"],
    }


def _only(fields: Mapping[str, Any], names: Mapping[str, Any] | Sequence[str]) -> Fields:
    return {name: fields[name] for name in names if name in fields}


def _encoded(text: object) -> bytes:
    return text.encode(errors="surrogateescape") if isinstance(text, str) else b""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
