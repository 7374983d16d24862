"""What holds in every test: warnings are errors (pyproject), and nothing may block an event loop."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.loop_watch import LoopWatch


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of every later garbage collection: all of it takes a second, within some test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def event_loop_is_never_blocked() -> Iterator[None]:
    """Fail a test in which one callback holds the event loop for long."""
    with LoopWatch() as watch:
        yield
    assert not watch.blocked, f"the event loop was blocked: {watch.blocked}"
