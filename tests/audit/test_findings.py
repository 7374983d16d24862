import math

import pytest

from fednet.audit.findings import MOST_SHOWN, Finding, differences, parsed, plain


def test_a_finding_names_where_what_and_how_it_should_be() -> None:
    field = Finding(round=2, field="test.accuracy", found="0.4", expected="0.5")
    assert str(field) == "round 2: test.accuracy: found 0.4, expected 0.5"
    whole = Finding(file="best.pth", found="changed since the run was sealed")
    assert str(whole) == "file best.pth: changed since the run was sealed"
    both = Finding(round=1, file="best.pth", field="model", found="a" * 64, expected="b" * 64)
    assert str(both) == f"round 1, file best.pth: model: found {'a' * 12}..., expected {'b' * 12}..."


def test_documents_are_compared_down_to_their_values() -> None:
    found = {"test": {"loss": 0.5, "images": 4}, "cut": None, "rows": [1, [2, 3]], "same": math.nan}
    expected = {"test": {"loss": 0.25, "f1": 1.0}, "cut": 1, "rows": [1, [2, 4]], "same": math.nan}
    assert list(differences(found, expected)) == [
        ("cut", "nothing", "1"),
        ("rows[1][1]", "3", "4"),
        ("test.f1", "nothing", "1.0"),
        ("test.images", "4", "nothing"),
        ("test.loss", "0.5", "0.25"),
    ]


def test_what_concerns_a_worker_is_named_by_it() -> None:
    found = {"updates": [{"worker": "client2", "samples": 3}, {"worker": "client1", "samples": 1}]}
    expected = {"updates": [{"worker": "client1", "samples": 2}]}
    assert [path for path, *_ in differences(found, expected)] == ["updates.client1.samples", "updates.client2"]


@pytest.mark.parametrize(("found", "expected"), [(1, 1.0), (1, True), ("1", 1), ([1], [1, 2]), (b"x", "b'x'")])
def test_values_that_are_written_differently_differ(found: object, expected: object) -> None:
    assert list(differences(found, expected, "field"))


@pytest.mark.parametrize("value", ["\x1b[2J\n", "\udc80", "x" * 1000, b"\x00" * 9, None, {"a": b"b"}, math.inf])
def test_any_value_is_shown_in_a_few_printable_characters(value: object) -> None:
    shown = plain(value)
    assert shown.isascii() and shown.isprintable()
    assert len(shown) <= MOST_SHOWN


@pytest.mark.parametrize("text", [None, 3, b"\xff", "\udc80", "{", "[" * 100_000, "9" * 5000])
def test_what_is_no_document_is_none(text: object) -> None:
    assert parsed(text) is None
