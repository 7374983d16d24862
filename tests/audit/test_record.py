import json

import pytest

from fednet.audit.record import SignedRecord, canonical, read_header
from fednet.errors import AuditError
from tests.audit.records import chain, digest


def test_a_header_covers_the_record_before_it() -> None:
    first, second, third = chain({"a": digest("1")}, {"a": digest("2")})
    assert second.fields["previous"] == first.digest
    assert third.fields["previous"] == second.digest
    assert (third.round, third.fields["entries"]) == (2, 1)


def test_there_is_one_encoding() -> None:
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        canonical({"a": float("nan")})


def test_headers_of_hospitals_name_no_hospital() -> None:
    record: SignedRecord = chain({"client1": digest("1"), "client2": digest("2")})[1]
    assert b"client" not in record.header


@pytest.mark.parametrize(
    "header",
    [
        b"\xff",
        b"[]",
        b"{}",
        b'{"format":"fednet-audit-2"}',
        b"[" * 8000,
        '{"format":"x"}'.encode("utf-16"),
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(AuditError, match="header"):
        read_header(header)


def test_a_header_without_a_field_names_it() -> None:
    fields = json.loads(chain()[0].header)
    del fields["entries_root"]
    with pytest.raises(AuditError, match="no usable entries_root"):
        read_header(canonical(fields))


def test_a_header_has_one_form_and_a_round_that_can_be() -> None:
    header = chain()[0].header
    with pytest.raises(AuditError, match="not in its canonical form"):
        read_header(header.replace(b":", b": "))
    with pytest.raises(AuditError, match="no usable round"):
        read_header(canonical(json.loads(header) | {"round": 2**70}))
