from pathlib import Path

import pytest

from fednet.errors import StorageError
from fednet.storage.journal import Journal, read_journal


def test_what_was_appended_is_read_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    journal = Journal(path)
    journal.append({"n": 1})
    journal.append({"n": 2, "text": "ü"})
    again = Journal(path)
    assert again.documents == [{"n": 1}, {"n": 2, "text": "ü"}]
    again.append({"n": 3})
    assert [line["n"] for line in read_journal(path)] == [1, 2, 3]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("torn", ['{"n": 2', "\0\0\0\0\0\n", '{"n": 2}'])
def test_a_torn_line_counts_as_never_written(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "log.jsonl"
    Journal(path).append({"n": 1})
    with path.open("a") as file:
        file.write(torn)
    again = Journal(path)
    assert again.documents == [{"n": 1}]
    again.append({"n": 3})
    assert path.read_text() == '{"n": 1}\n{"n": 3}\n'


@pytest.mark.parametrize("damage", ["no json\n", "[]\n"])
def test_a_damaged_line_before_the_last_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"n": 1}\n' + damage + '{"n": 3}\n')
    with pytest.raises(StorageError, match="line 2 is damaged"):
        Journal(path)


def test_a_journal_that_is_not_there_is_empty_or_an_error(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none").documents == []
    with pytest.raises(StorageError, match="no such file"):
        read_journal(tmp_path / "none")
    with pytest.raises(StorageError, match="cannot be read"):
        Journal(tmp_path)


def test_two_processes_on_one_journal_lose_nothing(tmp_path: Path) -> None:
    """Found in review: one that had stood still wrote over what the other had appended since."""
    path = tmp_path / "log.jsonl"
    first = Journal(path)
    first.append({"n": 1})
    second = Journal(path)
    second.append({"n": 2})
    with pytest.raises(StorageError, match="another process writes to it too"):
        first.append({"n": 3})
    assert [line["n"] for line in read_journal(path)] == [1, 2]
