import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fednet.audit.hospital_log import LogChecked, check_log
from fednet.audit.record import SignedRecord, canonical
from fednet.audit.verification import CheckedRecord
from tests.audit.records import RUN, chain, check, closing, digest, sign

SENT = ({"client1": digest("one"), "client2": digest("two")}, {"client1": digest("three")})
RECORDS = chain(*SENT)


def checked(records: Sequence[SignedRecord]) -> list[CheckedRecord]:
    return [
        CheckedRecord(
            round=each.round,
            header=each.header,
            signature=each.signature,
            certificate=each.certificate,
            entries=each.entries,
            fields=each.fields,
            is_signed=True,
        )
        for each in records
    ]


def shown(record: SignedRecord, position: int | None) -> dict[str, Any]:
    """Return the line of client2's log for a record."""
    told = closing(record, position)
    return {
        "kind": "record",
        "run": RUN,
        "header": record.header.decode(),
        "signature": record.signature.hex(),
        "certificate": record.certificate.hex(),
        "entry": told.entry.decode(),
        "position": told.position,
        "path": told.path.hex(),
    }


def lines() -> list[dict[str, Any]]:
    """Return client2's log: it was there in round 1 and away in round 2."""
    return [
        {"kind": "acknowledged", "run": RUN, "round": 1, "sha256": digest("two")},
        shown(RECORDS[1], 1),
        {"kind": "header", "run": RUN, "header": RECORDS[2].header.decode()},
        {"kind": "record", "run": "another", "header": "{}"},
    ]


def result(log: Sequence[dict[str, Any]], records: Sequence[SignedRecord] = RECORDS) -> LogChecked:
    found = check_log(log, checked(records), run=RUN, check_signature=check)
    assert found is not None
    return found


def findings(log: Sequence[dict[str, Any]], records: Sequence[SignedRecord] = RECORDS) -> list[str]:
    return [str(each) for each in result(log, records).findings]


def test_a_log_that_agrees_is_counted() -> None:
    found = result(lines())
    assert (found.findings, found.records, found.acknowledged) == ((), 2, 1)
    assert findings([shown(RECORDS[2], None)]) == []


def test_a_log_of_other_runs_says_nothing() -> None:
    assert check_log(lines()[3:], checked(RECORDS), run=RUN, check_signature=check) is None


def test_another_record_with_the_coordinators_signature_is_a_proof() -> None:
    other = canonical(json.loads(RECORDS[1].header) | {"note": "another"})
    line = lines()[1] | {"header": other.decode(), "signature": sign(other).hex()}
    assert findings([line]) == ["round 1: record: the hospital was shown another record, which the coordinator signed"]
    assert findings([line | {"signature": "00"}]) == ["round 1: record: the hospital was shown another record"]
    assert findings([line | {"signature": "no hex"}]) == ["round 1: record: the hospital was shown another record"]


def test_another_header_in_between_is_found() -> None:
    other = canonical(json.loads(RECORDS[2].header) | {"note": "another"})
    line = {"kind": "header", "run": RUN, "header": other.decode()}
    assert findings([line]) == ["round 2: record: the hospital was shown another record"]


def test_a_record_that_the_run_does_not_have_is_found() -> None:
    assert findings(lines(), RECORDS[:2]) == [
        "round 2: record: found none, expected the one that the hospital was shown"
    ]


def test_a_header_that_cannot_be_read_is_found() -> None:
    assert findings([{"kind": "header", "run": RUN, "header": "{"}]) == [
        "file the worker's log: header: record: header is no JSON"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("signature", "00"), ("certificate", "00"), ("entry", "{}"), ("position", 0), ("path", "00"), ("position", None)],
)
def test_what_proves_a_record_must_be_as_it_was_shown(name: str, value: object) -> None:
    found = result([lines()[1] | {name: value}]).findings
    assert (1, f"shown {name}") in {(each.round, each.field) for each in found}


def test_an_acknowledged_update_without_an_entry_is_found() -> None:
    log = [{"kind": "acknowledged", "run": RUN, "round": 2, "sha256": digest("four")}]
    found = result(log).findings
    assert [(each.round, each.field, each.found) for each in found] == [(2, "update_sha256", "no entry")]


def test_an_acknowledged_update_of_a_round_under_way_is_none() -> None:
    assert findings([{"kind": "acknowledged", "run": RUN, "round": 3, "sha256": digest("four")}]) == []


def test_the_update_that_was_acknowledged_last_is_the_one_that_counts() -> None:
    first = {"kind": "acknowledged", "run": RUN, "round": 1, "sha256": digest("lost in a crash")}
    assert findings([first, *lines()]) == []


def test_entries_that_cannot_be_read_are_no_traceback() -> None:
    broken = replace(RECORDS[1], entries=(b"{", b"[]"))
    assert findings(lines(), [RECORDS[0], broken, RECORDS[2]])
