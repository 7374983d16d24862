import json

import pytest

from tests.commands.running import run


def test_krum_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "bench", "krum", "--workers", "5,6", "--dim", "3000", "--repeats", "1", "--json")
    assert ran.code == 0
    document = json.loads(ran.out)
    assert [run["workers"] for run in document["runs"]] == [5, 6]


@pytest.mark.parametrize("source", [(), ("--from-spool",)])
def test_krum_prints_a_table_with_what_its_columns_mean(
    capsys: pytest.CaptureFixture[str], source: tuple[str, ...]
) -> None:
    ran = run(capsys, "bench", "krum", "--workers", "5", "--dim", "3000", "--repeats", "1", *source)
    assert ran.code == 0
    assert "ratio" in ran.out
    assert "whole: s: distances, Multi-Krum's plan and the weighted sum" in ran.out


def test_counts_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "bench", "krum", "--workers", "ten")
    assert ran.code == 2
    assert "--workers; found ten" in ran.err
