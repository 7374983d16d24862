from pathlib import Path

import pytest

from fednet.errors import AuditError
from fednet.storage.journal import Journal
from fednet.worker.record_log import RecordLog
from tests.audit.records import RUN, chain, check, digest, shown

RECORDS = chain({"b": digest("1")}, {"b": digest("2")}, {"b": digest("3")})


def log_in(path: Path, run: str = RUN) -> RecordLog:
    return RecordLog(Journal(path), run=run, worker="b", check_signature=check)


def test_the_next_process_knows_what_this_one_was_shown(tmp_path: Path) -> None:
    log = log_in(tmp_path / "log")
    log.keep_acknowledged(1, digest("1"))
    log.keep_acknowledged(1, digest("1"))
    log.keep_record(shown(RECORDS[1], 0))
    log.keep_header(RECORDS[2].header)
    again = log_in(tmp_path / "log")
    assert again.acknowledged == {1: digest("1")}
    assert (again.chain.round, again.chain.digest) == (2, RECORDS[2].digest)
    assert [line["kind"] for line in Journal(tmp_path / "log").documents] == ["acknowledged", "record", "header"]


def test_what_was_withdrawn_is_no_longer_insisted_on(tmp_path: Path) -> None:
    log = log_in(tmp_path / "log")
    log.keep_acknowledged(1, digest("1"))
    log.keep_withdrawn(1)
    assert log.acknowledged == log_in(tmp_path / "log").acknowledged == {}


def test_another_run_begins_anew_in_the_same_log(tmp_path: Path) -> None:
    log_in(tmp_path / "log").keep_record(shown(RECORDS[1], 0))
    other = log_in(tmp_path / "log", run="other")
    assert (other.chain.round, other.chain.digest, other.acknowledged) == (0, None, {})


@pytest.mark.parametrize(
    "line", ['{"run": "run"}', '{"run": "run", "kind": "record"}', '{"run": "run", "kind": "header", "header": "x"}']
)
def test_a_damaged_log_is_said(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_text(line + "\n")
    with pytest.raises(AuditError, match=r"damaged|no JSON"):
        log_in(tmp_path / "log")
