import time

import pytest

from fednet.reporting.seldom import Seldom


def test_it_is_due_at_once_and_then_after_so_many_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 3.0  # a machine that has just started
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    told = Seldom(15.0)
    assert told.is_due() and not told.is_due()
    now_s = 18.5
    assert told.is_due() and not told.is_due()


def test_it_counts_from_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 3.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    told = Seldom(15.0)
    told.restart()
    assert not told.is_due()
    now_s = 18.5
    assert told.is_due()
