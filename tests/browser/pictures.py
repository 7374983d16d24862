"""Makes the README's pictures of the page from a run: `python -m tests.browser.pictures runs/pictured/multikrum`."""

from __future__ import annotations

import sys
from pathlib import Path

from fednet.bench.browser import chromium
from tests.browser.browsing import served, watched
from tests.integration.site import ROOT

_FOLDER = ROOT / "fednet" / "dashboard" / "pictures"


def main(run: Path) -> None:
    """Write overview.png and round.png."""
    with chromium() as browser, served(run.resolve()) as (url, _), watched(browser, color_scheme="light") as page:
        page.open(url)
        page.page.screenshot(path=_FOLDER / "overview.png")
        page.page.locator("#round-part").screenshot(path=_FOLDER / "round.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
