"""A browser that keeps account of what a page asks for and says, and pages of made-up runs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from fednet.bench.browser import wait_until
from tests.integration.processes import PROGRAM

DESKTOP = (1280, 900)
PHONE = (375, 812)


class Watched:
    """A page, all that it has asked for, and all that went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._note_request)
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, url: str) -> None:
        """Load the page, and wait until it shows the run."""
        self.page.goto(url)
        self.wait("document.body.dataset.rounds !== undefined")

    def wait(self, claim: str, *, within_s: float = 60) -> None:
        """Wait until a JavaScript expression is true."""
        wait_until(self.page, claim, within_s=within_s)

    def text(self, selector: str) -> str:
        """Return what is to be read in an element."""
        return self.page.inner_text(selector)

    def _note_request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@contextlib.contextmanager
def watched(browser: Browser, *, size: tuple[int, int] = DESKTOP, **options: Any) -> Iterator[Watched]:
    """Open an empty page; `options` as for a Playwright context (`color_scheme`)."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    context.set_default_timeout(60_000)
    try:
        yield Watched(context.new_page())
    finally:
        context.close()


@contextlib.contextmanager
def served(run: Path, *options: str, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `cli.py dashboard` of a run for as long as the block lasts; yield its address and its process."""
    log = run.parent / f"{run.name}-page-{time.monotonic_ns()}.log"
    arguments = ["dashboard", "--run-dir", str(run), "--listen", f"127.0.0.1:{port}", *options]
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, str(PROGRAM), *arguments], stdout=output, stderr=output)
        try:
            give_up_s = time.monotonic() + 60
            while "\n" not in log.read_text():
                assert process.poll() is None and time.monotonic() < give_up_s, log.read_text()
                time.sleep(0.05)
            yield log.read_text().split()[0], process
        finally:
            process.kill()
            process.wait()
