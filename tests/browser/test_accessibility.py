"""axe-core finds nothing serious on the page, light and dark, large and small."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from fednet.bench.pretended import PretendedRun, names
from tests.browser.browsing import served, watched

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("size", [(1280, 5000), (375, 9000)])  # high enough that every part is drawn
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("rounds", [0, 4])
def test_no_serious_finding(
    tmp_path: Path, browser: Browser, scheme: Literal["light", "dark"], size: tuple[int, int], rounds: int
) -> None:
    run = PretendedRun(tmp_path / "run", workers=names(24), attackers=names(24)[20:], rounds=9)
    for number in range(1, rounds + 1):
        run.commit(number)
    run.show_status(rounds + 1, 0.4)
    with served(run.folder) as (url, _), watched(browser, size=size, color_scheme=scheme) as page:
        page.open(url)
        if rounds:
            page.page.click(".culprits button")
            page.wait("!document.getElementById('detail').hidden")
        found = Axe().run(page.page).response["violations"]
        serious = [
            (each["id"], [node["html"] for node in each["nodes"]][:3])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert not serious
        assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        run.close()
