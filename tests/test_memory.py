from pathlib import Path

import pytest

from fednet import memory


def test_memory_is_as_the_kernel_says() -> None:
    total, free, own = memory.total_bytes(), memory.available_bytes(), memory.resident_bytes()
    assert total is not None and free is not None and own is not None
    assert 0 < own < total
    assert 0 < free < total


def test_where_there_is_no_proc_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert (memory.total_bytes(), memory.available_bytes(), memory.resident_bytes()) == (None, None, None)
