"""A headless Chromium that opens pages of this machine, and what it measures of them."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fednet.errors import BadInput

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_ARGUMENTS = (
    "--no-sandbox",  # it runs as root in containers, and opens nothing but our own pages
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_WITHIN_S = 60.0
_EMPTY = "data:text/html,<!doctype html><title>empty</title><p>a line</p>"
_PAINTED = "() => performance.getEntriesByName('first-contentful-paint').map(each => each.startTime)[0]"
_SHOWN = "() => performance.getEntriesByName('fednet:shown').map(each => each.startTime)[0]"
_UPDATES = "() => performance.getEntriesByName('fednet:update').map(each => each.duration)"
_POLL_MS = 50.0


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser for as long as the block lasts; raises `BadInput` where there is none, saying what to install."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise BadInput("browser", found="no Chromium on this machine", todo="apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as exc:
        raise BadInput("browser", found="no playwright to drive it with", todo="pip install playwright") from exc
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def first_paints(browser: Browser, url: str, repeats: int) -> dict[str, list[float]]:
    """Return seconds from the start of the navigation, cache empty, of each repeat.

    `painted`: the first content; `shown`: the whole run; `empty`: the first content of a page of one line.
    """
    found: dict[str, list[float]] = {"painted": [], "shown": [], "empty": []}
    for _ in range(repeats):
        with _page(browser, _EMPTY) as page:
            found["empty"].append(_value(page, _PAINTED))
        with _page(browser, url) as page:
            found["shown"].append(_value(page, _SHOWN))
            found["painted"].append(_value(page, _PAINTED))
    return found


def updates(browser: Browser, url: str, news: Callable[[int], None], count: int) -> list[float]:
    """Return seconds from the arrival of each of `count` events to its picture; `news(i)` makes the run change."""
    with _page(browser, url) as page:
        _value(page, _SHOWN)
        page.wait_for_timeout(2000)  # the first event, which tells what the page knows already
        before = len(page.evaluate(_UPDATES))
        for index in range(count):
            known = len(page.evaluate(_UPDATES))
            news(index)
            wait_until(page, f"performance.getEntriesByName('fednet:update').length > {known}")
        return [each / 1000 for each in page.evaluate(_UPDATES)[before:]]


def wait_until(page: Page, claim: str, *, within_s: float = _WITHIN_S) -> None:
    """Wait until a JavaScript expression is true; Playwright's own way needs `unsafe-eval`, which the page forbids."""
    give_up_s = time.monotonic() + within_s
    while not page.evaluate(claim):
        if time.monotonic() > give_up_s:
            raise TimeoutError(
                f"{claim} is not true within {within_s:.0f} s: {page.evaluate('document.body.innerText')}"
            )
        page.wait_for_timeout(_POLL_MS)


@contextlib.contextmanager
def _page(browser: Browser, url: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(1000 * _WITHIN_S)
    try:
        page = context.new_page()
        page.goto(url)
        yield page
    finally:
        context.close()


def _value(page: Page, script: str) -> float:
    """Return the milliseconds that a script finds, in seconds, once there are some."""
    wait_until(page, f"({script})() !== undefined")
    return float(page.evaluate(script)) / 1000
