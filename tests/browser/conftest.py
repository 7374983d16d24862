"""A browser for the tests of this folder; where there is none they are skipped, and say so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from fednet.bench.browser import chromium
from fednet.errors import BadInput

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(autouse=True)
def event_loop_is_never_blocked() -> None:
    """Playwright's own loop stands still while a test computes: nothing of ours runs on it."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium, for the tests of one file."""
    with contextlib.ExitStack() as opened:
        try:
            found = opened.enter_context(chromium())
        except BadInput as exc:
            pytest.skip(f"the page is not tested here: {exc}")
        yield found
