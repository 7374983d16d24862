"""A report in a real browser: it fetches nothing, fits, and axe-core finds nothing serious in it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from fednet.reporting.worker_report import worker_report
from tests.browser.browsing import DESKTOP, PHONE, watched
from tests.reporting.made_up import round_document
from tests.reporting.pages import EVIL, NOW, card_of, found, history, renamed, report, update

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a run of three rounds with an attacker of an evil name, of an empty run, and of a hospital."""
    folder = tmp_path_factory.mktemp("pages")
    documents = [renamed(round_document(number, declined={"client7": EVIL}), EVIL) for number in (1, 2, 3)]
    texts = {
        "run": report(
            history(*documents),
            cards=[card_of(*documents)],
        ).replace("<details>", "<details open>"),
        "empty": report(history()),
        "hospital": worker_report(found(update(1), update(2, "rejected")), name="client2", made=NOW, is_open=True),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "empty", "hospital"])
def test_a_report_is_accessible_fits_and_fetches_nothing(
    browser: Browser, pages: dict[str, Path], name: str, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    address = pages[name].as_uri()
    with watched(browser, size=size, color_scheme=scheme) as page:
        page.page.goto(address)
        assert [each for each in page.asked if not each.startswith("data:")] == [address]
        assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        complaints = list(page.complaints)
        violations = Axe().run(page.page).response["violations"]
    assert complaints == []
    assert not [
        (each["id"], [node["html"] for node in each["nodes"]][:3])
        for each in violations
        if each["impact"] in ("serious", "critical")
    ]


def test_no_script_runs_in_a_report(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(pages["empty"].read_text().replace("</main>", "<script>document.title = 'run'</script></main>"))
    with watched(browser) as page:
        page.page.goto(spoilt.as_uri())
        assert page.page.title() == "FedNet: run first"
        assert any("Content Security Policy" in each for each in page.complaints)
