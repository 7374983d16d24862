"""Makes the README's pictures of the page from a run: `python -m tests.browser.pictures runs/pictured/multikrum`."""

from __future__ import annotations

import sys
from pathlib import Path

from fednet.bench.browser import chromium
from tests.browser.browsing import served, watched
from tests.integration.processes import ROOT

_FOLDER = ROOT / "fednet" / "dashboard" / "pictures"


def main(run: Path) -> None:
    """Write overview.png and round.png."""
    with chromium() as browser, served(run.resolve()) as (url, _), watched(browser, color_scheme="light") as page:
        page.open(url)
        page.page.screenshot(path=_FOLDER / "overview.png")
        page.page.set_viewport_size({"width": 1280, "height": 1400})
        part = page.page.locator("#round-part")
        part.scroll_into_view_if_needed()
        page.wait("document.querySelector('#confusion table').checkVisibility({ contentVisibilityAuto: true })")
        part.screenshot(path=_FOLDER / "round.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
