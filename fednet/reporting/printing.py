"""Prints an HTML page as PDF, by a browser of this machine that needs no screen: Chromium, Chrome or Edge."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fednet.errors import BadInput, FednetError
from fednet.storage.atomic import write_bytes
from fednet.storage.disk import storage_error

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "microsoft-edge-stable",
    "msedge",
)
_WITHIN_S = 120.0


class NotPrinted(FednetError):
    """The browser made no PDF; the text has its last line."""


def require_browser() -> str:
    """Return the first of `BROWSERS` on the PATH; raises `BadInput` where there is none."""
    for name in BROWSERS:
        if (path := shutil.which(name)) is not None:
            return path
    raise BadInput(
        "--pdf",
        found="no browser that prints on the PATH",
        expected="one of " + ", ".join(BROWSERS),
        todo="install Chromium, or open the HTML file and print it",
    )


def pdf_beside(page: Path) -> Path:
    """Return the PDF's place beside `page`; raises `BadInput` where `page` has that name itself."""
    pdf = page.with_suffix(".pdf")
    if pdf == page:
        raise BadInput(
            f"--out {page}",
            found="the name of the PDF that --pdf puts beside the page",
            expected=f"the page's own name, as {page.with_suffix('.html').name}",
        )
    return pdf


def print_pdf(html: str, path: Path) -> None:
    """Write a page as the PDF `path`. Raises `BadInput` without a browser, `NotPrinted`, `StorageError`."""
    browser = require_browser()
    try:
        with tempfile.TemporaryDirectory(prefix="fednet-pdf-", ignore_cleanup_errors=True) as folder:
            content = _printed(browser, html, Path(folder))
    except OSError as exc:
        raise storage_error(Path(exc.filename or "the folder for temporary files"), exc) from exc
    write_bytes(path, content)


def _printed(browser: str, html: str, folder: Path) -> bytes:
    page, pdf = folder / "page.html", folder / "page.pdf"
    page.write_text(html, encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--disable-gpu",
        "--no-first-run",
        "--no-pdf-header-footer",
        f"--user-data-dir={folder}/profile",
        f"--print-to-pdf={pdf}",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium has none for root, and says so
        page.as_uri(),
    ]
    try:
        code, said = _ran(command)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NotPrinted(f"{browser} printed nothing: {exc}") from exc
    if code or not pdf.is_file():
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        raise NotPrinted(f"{browser} printed nothing (code {code}): {last}")
    return pdf.read_bytes()


def _ran(command: Sequence[str]) -> tuple[int, str]:
    """Run the command and return its exit code and what it said; one that takes too long ends with all it started."""
    with subprocess.Popen(  # noqa: S603 - the browser that was found, with our own arguments
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=_WITHIN_S)
        except BaseException:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, said
