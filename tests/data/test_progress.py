from types import SimpleNamespace

import pytest

from data import progress
from data.progress import counted


def test_what_takes_long_is_told_of_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 0.5, 1.1, 1.1, 1.2, 1.4, 1.4])  # at the beginning, then at each item, and where it is told
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    told: list[tuple[int, int]] = []
    assert list(counted("abcd", 4, lambda done, total: told.append((done, total)))) == list("abcd")
    assert told == [(2, 4), (4, 4)], "nothing in the first second, then every 0.2 s at most"


def test_what_is_over_at_once_is_not_told_of() -> None:
    told: list[int] = []
    assert list(counted(range(1000), 1000, lambda done, total: told.append(done))) == list(range(1000))
    assert told == []
