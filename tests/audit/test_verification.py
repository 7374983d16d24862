import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fednet.audit.evidence import RecordRow, RunRows
from fednet.audit.record import canonical, digest_of_header, document_text, make_header
from fednet.audit.verification import Verified, verify
from fednet.security.authority import create_authority
from fednet.security.signing import RecordSigner
from fednet.storage.evidence import read_evidence
from tests.audit.finished import Site, make_run
from tests.security.certs import NOW


class Records:
    """The rows of a finished run, to be tampered with."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.rows = read_evidence(site.run)
        self.history = json.loads((site.run / "history.json").read_bytes())
        self.check = site.check

    def findings(self, rows: RunRows | None = None, *, has_history: bool = True) -> set[tuple[int | None, str | None]]:
        """Return (round, field) of everything that is found."""
        found = self.verified(rows, has_history=has_history).findings
        return {(each.round, each.field) for each in found}

    def verified(self, rows: RunRows | None = None, *, has_history: bool = True) -> Verified:
        history = self.history if has_history else None
        return verify(rows or self.rows, history=history, check_signature=self.check)

    def with_record(self, number: int, **changes: Any) -> RunRows:
        changed = [replace(row, **changes) if row.round == number else row for row in self.rows.records]
        return replace(self.rows, records=tuple(changed))

    def with_header(self, number: int, change: Callable[[dict[str, Any]], None]) -> RunRows:
        header = json.loads(_header(self.rows.records[number]))
        change(header)
        return self.with_record(number, header=canonical(header))

    def with_round(self, number: int, **changes: Any) -> RunRows:
        changed = [replace(row, **changes) if row.round == number else row for row in self.rows.rounds]
        return replace(self.rows, rounds=tuple(changed))

    def with_document(self, number: int, change: Callable[[dict[str, Any]], None]) -> RunRows:
        document = json.loads(str(self.rows.rounds[number - 1].document))
        change(document)
        return self.with_round(number, document=document_text(document).decode())

    def with_update(self, number: int, of: str, **changes: Any) -> RunRows:
        changed = [
            replace(row, **changes) if (row.round, row.worker) == (number, of) else row for row in self.rows.updates
        ]
        return replace(self.rows, updates=tuple(changed))


def _header(row: RecordRow) -> bytes:
    assert isinstance(row.header, bytes)
    return row.header


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A finished run of two rounds with three workers."""
    return Records(make_run(tmp_path_factory.mktemp("site") / "made"))


def put(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Return what sets a field of a document, by its path."""

    def change(document: Any) -> None:
        *above, last = path.split(".")
        for name in above:
            document = document[int(name) if name.isdigit() else name]
        document[int(last) if last.isdigit() else last] = value

    return change


def test_a_finished_run_has_nothing_to_find(records: Records) -> None:
    verified = records.verified()
    assert verified.findings == ()
    assert verified.notes == ()
    assert [each.round for each in verified.records] == [0, 1, 2]
    assert len(verified.documents) == 2
    assert records.findings(has_history=False) == set()


OTHER = "0" * 63 + "1"


@pytest.mark.parametrize("has_history", [True, False])
@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("run", "another", "run"),
        ("round", 3, "round"),
        ("previous", OTHER, "previous"),
        ("model_before", OTHER, "model_before"),
        ("entries", 4, "entries"),
        ("entries_root", OTHER, "entries_root"),
        ("document_sha256", OTHER, "document_sha256"),
        ("settings_sha256", OTHER, "settings_sha256"),
        ("aggregator", "krum", "aggregator"),
        ("byzantine", 1, "byzantine"),
        ("test.accuracy", 0.9, "test.accuracy"),
        ("software.torch", "1.0", "software.torch"),
        ("format", "another", "header"),
        ("model_after", OTHER, "model_after"),
    ],
)
def test_a_changed_header_is_named_by_its_field(
    records: Records, path: str, value: object, field: str, has_history: bool
) -> None:
    found = records.findings(records.with_header(1, put(path, value)), has_history=has_history)
    assert {(1, field), (1, "signature")} <= found
    assert {number for number, _ in found} == {1}, "the records around it are as they were"


def test_a_changed_moment_is_named_by_the_signature(records: Records) -> None:
    assert records.findings(records.with_header(2, put("signed_s", 1.0))) == {(2, "signature")}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [("previous", OTHER, "previous"), ("manifest", OTHER, "manifest"), ("model_after", OTHER, "model_before")],
)
def test_the_beginning_is_checked_too(records: Records, path: str, value: object, field: str) -> None:
    assert {(0, field), (0, "signature")} <= records.findings(records.with_header(0, put(path, value)))


@pytest.mark.parametrize("path", ["worker", "certificate", "update_sha256", "samples", "selected", "weight", "reason"])
def test_a_changed_entry_is_named_by_its_worker_and_field(records: Records, path: str) -> None:
    entries = json.loads(str(records.rows.records[2].entries))
    changed = json.loads(entries[1])
    put(path, "another")(changed)
    entries[1] = canonical(changed).decode()
    found = records.findings(records.with_record(2, entries=json.dumps(entries)))
    assert found == {(2, f"entry of client2: {path}")}


@pytest.mark.parametrize(
    ("entries", "field"), [("[", "entries"), ("[1]", "entries"), ('["{}"]', "entries"), (None, "entries")]
)
def test_entries_that_cannot_be_read_are_named(records: Records, entries: object, field: str) -> None:
    assert (2, field) in records.findings(records.with_record(2, entries=entries))


def test_an_entry_that_is_no_json_is_named_by_its_worker(records: Records) -> None:
    entries = json.loads(str(records.rows.records[2].entries))
    entries[2] = "{"
    assert records.findings(records.with_record(2, entries=json.dumps(entries))) == {(2, "entry of client3")}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("test.accuracy", "test.accuracy"),
        ("byzantine", "byzantine"),
        ("model_sha256", "model_sha256"),
        ("updates.0.samples", "updates.client1.samples"),
        ("updates.2.reason", "updates.client3.reason"),
    ],
)
def test_a_changed_document_is_named_by_the_field_that_its_record_knows(
    records: Records, path: str, field: str
) -> None:
    rows = records.with_document(1, put(path, 0.125))
    assert records.findings(rows, has_history=False) == {(1, field)}
    assert records.findings(rows) == {(1, field)}


@pytest.mark.parametrize("path", ["validation.loss", "seconds.round", "aggregation.note", "updates.0.train_s"])
def test_what_no_record_spells_out_is_named_by_the_copy_in_history(records: Records, path: str) -> None:
    rows = records.with_document(2, put(path, 0.125))
    assert records.findings(rows) == {(2, path.replace("updates.0", "updates.client1"))}
    assert records.findings(rows, has_history=False) == {(2, "document")}


@pytest.mark.parametrize("document", ["{", None, b"", "[]"])
def test_a_document_that_is_none_is_named(records: Records, document: object) -> None:
    assert records.findings(records.with_round(1, document=document)) == {(1, "document")}


def test_a_changed_model_column_is_named(records: Records) -> None:
    assert records.findings(records.with_round(2, model_sha256=OTHER)) == {(2, "model_sha256")}


@pytest.mark.parametrize("column", ["sha256", "samples", "fingerprint", "fate", "reason"])
def test_a_changed_row_of_an_update_is_named(records: Records, column: str) -> None:
    rows = records.with_update(1, "client2", **{column: "another"})
    assert records.findings(rows) == {(1, f"update of client2: {column}")}


def test_a_missing_and_a_strange_update_are_named(records: Records) -> None:
    rows = records.with_update(1, "client2", worker="client9")
    assert records.findings(rows) == {(1, "update of client2"), (1, "update of client9")}


def test_an_update_that_came_too_late_is_no_finding(records: Records) -> None:
    late = replace(records.rows.updates[0], worker="client9", fate=None, reason=None)
    assert records.findings(replace(records.rows, updates=(*records.rows.updates, late))) == set()


@pytest.mark.parametrize(("column", "field"), [("signature", "signature"), ("certificate", "certificate")])
@pytest.mark.parametrize("value", [b"", b"0" * 70, None, "text"])
def test_a_record_without_its_proof_is_named(records: Records, column: str, field: str, value: object) -> None:
    assert records.findings(records.with_record(1, **{column: value})) == {(1, field)}


def test_the_runs_own_row_is_held_against_the_beginning(records: Records) -> None:
    assert records.findings(replace(records.rows, run="another")) == {(0, "run")}
    assert records.findings(replace(records.rows, manifest="another")) == {(0, "manifest")}


def test_changed_settings_are_named_where_a_copy_tells(records: Records) -> None:
    settings = json.loads(str(records.rows.settings)) | {"seed": 7}
    rows = replace(records.rows, settings=json.dumps(settings))
    assert records.findings(rows) == {(2, "settings.seed")}
    assert records.findings(rows, has_history=False) == {(2, "settings")}
    assert records.findings(replace(records.rows, settings="{")) == {(2, "settings")}


def test_what_a_resume_may_change_is_noted_until_a_record_signs_it(records: Records) -> None:
    settings = json.loads(str(records.rows.settings)) | {"rounds": 9}
    later = replace(records.rows, settings=json.dumps(settings), resumed_s=(2e9 * 2,))
    verified = records.verified(later)
    assert verified.findings == ()
    assert verified.notes == ("settings: changed by a resume after round 2, not signed yet",)
    assert verified.settings is not None and verified.settings["rounds"] == 9
    other = replace(later, settings=json.dumps(settings | {"seed": 7}))
    assert records.findings(other) == {(2, "settings.rounds"), (2, "settings.seed")}


def test_a_removed_record_leaves_a_gap(records: Records) -> None:
    first, _, last = records.rows.records
    assert records.findings(replace(records.rows, records=(first, last))) == {
        (1, "record"),
        (2, "previous"),
        (2, "model_before"),
    }


def test_a_removed_beginning_is_missed(records: Records) -> None:
    rows = replace(records.rows, records=records.rows.records[1:])
    assert records.findings(rows) == {(0, "record")}


def test_a_removed_end_is_missed_while_its_round_is_there(records: Records) -> None:
    assert records.findings(replace(records.rows, records=records.rows.records[:-1])) == {(2, "record")}
    assert records.findings(replace(records.rows, records=())) == {(None, "record")}


def test_a_removed_round_is_missed(records: Records) -> None:
    assert records.findings(replace(records.rows, rounds=records.rows.rounds[1:])) == {(1, "rounds")}


def test_swapped_records_are_out_of_place(records: Records) -> None:
    zero, one, two = records.rows.records
    swapped = replace(records.rows, records=(zero, replace(two, round=1), replace(one, round=2)))
    assert {(1, "round"), (1, "previous"), (2, "round"), (2, "previous")} <= records.findings(swapped)


def rewritten(records: Records, signer: RecordSigner) -> RunRows:
    """Return the run with another accuracy in round 1, its whole chain made again by `signer`."""
    rows = records.with_document(1, put("test.accuracy", 0.99))
    made: list[RecordRow] = []
    previous: str | None = None
    for row in rows.records:
        fields = json.loads(_header(row))
        document = rows.rounds[row.round - 1].document if row.round else "{}"
        entries = [text.encode() for text in json.loads(str(row.entries))]
        names = ("manifest", "aggregator", "byzantine", "test", "software", "signed_s")
        facts = {name: fields[name] for name in names if name in fields}
        header = make_header(
            run=fields["run"],
            round_number=row.round,
            previous=previous or fields["previous"],
            entries=entries,
            model_before=fields["model_before"],
            model_after=fields["model_after"],
            document=str(document).encode(),
            settings=json.loads(str(rows.settings)),
            facts=facts | ({"test": facts["test"] | {"accuracy": 0.99}} if row.round == 1 else {}),
        )
        record = replace(row, header=header, signature=signer.sign(header), certificate=signer.certificate_der)
        previous = digest_of_header(header)
        made.append(record)
    return replace(rows, records=tuple(made))


def test_a_chain_that_another_key_signed_is_nobodys(records: Records, tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW).ensure_coordinator([], now=NOW)
    rows = rewritten(records, RecordSigner(tmp_path))
    assert {(0, "certificate"), (1, "certificate"), (2, "certificate")} <= records.findings(rows)


def test_only_a_hospitals_log_can_tell_that_the_coordinator_itself_rewrote_the_chain(records: Records) -> None:
    rows = rewritten(records, RecordSigner(records.site.certs))
    assert records.findings(rows, has_history=False) == set()


def test_a_run_that_an_older_version_began_is_covered_from_where_its_records_begin(records: Records) -> None:
    signer = RecordSigner(records.site.certs)
    fields = json.loads(_header(records.rows.records[1]))
    header = make_header(
        run=fields["run"],
        round_number=1,
        previous="0" * 64,
        entries=(),
        model_before=fields["model_after"],
        model_after=fields["model_after"],
        document=b"{}",
        settings=json.loads(str(records.rows.settings)),
        facts={"software": fields["software"]},
    )
    beginning = RecordRow(
        round=1,
        header=header,
        entries="[]",
        signature=signer.sign(header),
        certificate=signer.certificate_der,
    )
    second = json.loads(_header(records.rows.records[2])) | {"previous": digest_of_header(header)}
    rows = replace(
        records.rows,
        records=(
            beginning,
            replace(records.rows.records[2], header=canonical(second), signature=signer.sign(canonical(second))),
        ),
    )
    verified = records.verified(rows)
    assert verified.findings == ()
    assert verified.notes == ("rounds 1 to 1 are not covered: an older version ran them, the records begin after them",)
