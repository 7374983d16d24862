"""Prints an HTML page as PDF, by a browser of this machine that needs no screen: Chromium, Chrome or Edge."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from fednet.errors import BadInput, FednetError
from fednet.storage.atomic import write_bytes

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


def print_pdf(html: str, path: Path) -> None:
    """Write a page as the PDF `path`. Raises `BadInput` without a browser, `NotPrinted`, `StorageError`."""
    browser = require_browser()
    with tempfile.TemporaryDirectory(prefix="fednet-pdf-") as folder:
        page, pdf = Path(folder) / "page.html", Path(folder) / "page.pdf"
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
            ran = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise NotPrinted(f"{browser} printed nothing: {exc}") from exc
        if ran.returncode or not pdf.is_file():
            last = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise NotPrinted(f"{browser} printed nothing (code {ran.returncode}): {last}")
        write_bytes(path, pdf.read_bytes())
