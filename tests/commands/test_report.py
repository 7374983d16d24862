import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fednet.commands.processes import CLI
from fednet.storage.atomic import write_json
from fednet.storage.store import RunStore
from tests.audit.finished import Site, make_run
from tests.commands.running import Ran, run
from tests.reporting.cards import EXAMINED


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A finished, sealed run of two rounds with its cards."""
    return make_run(tmp_path_factory.mktemp("site") / "made", examine=lambda flat: EXAMINED)


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    return Site(Path(shutil.copytree(made.folder, tmp_path / "site")))


def report(capsys: pytest.CaptureFixture[str], site: Site, *options: object) -> Ran:
    return run(capsys, "runs", "report", site.run, "--certs", site.certs, *options)


def test_a_report_lies_in_the_runs_folder_and_the_seal_still_verifies(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(site.run.rglob("*"))
    ran = report(capsys, site)
    page = site.run / "report.html"
    assert (ran.code, ran.out) == (0, f"{page}: {page.stat().st_size:,} bytes\n")
    assert sorted(site.run.rglob("*")) == sorted([*before, page])
    text = page.read_text()
    assert "not a byte changed since the run was sealed" in text
    assert "Model card of final.pth" in text
    verified = run(capsys, "runs", "verify", site.run, "--certs", site.certs)
    assert (verified.code, verified.err) == (0, "")


def test_a_run_that_was_tampered_with_is_reported_as_such(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.run / "final.pth").unlink()
    assert report(capsys, site, "--out", site.folder / "page.html").code == 0
    text = (site.folder / "page.html").read_text()
    assert "Do not rely on this run" in text and "final.pth" in text


def test_without_the_authoritys_certificate_the_record_is_not_checked(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "runs", "report", site.run, "--certs", site.folder / "none").code == 0
    assert "not checked" in (site.run / "report.html").read_text()


def test_without_a_check_the_page_says_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.run / "final.pth").unlink()
    assert report(capsys, site, "--no-check").code == 0
    assert "this page was made without: `runs verify` checks it" in (site.run / "report.html").read_text()


def test_a_report_ends_with_the_program_that_started_it(site: Site) -> None:
    command = [sys.executable, *CLI, "runs", "report", str(site.run), "--with-parent"]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, b"")
    assert not (site.run / "report.html").exists()


def test_a_run_under_way_is_reported_without_its_lock(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    held = RunStore(site.run)
    try:
        assert report(capsys, site).code == 0
    finally:
        held.close()
    assert "Running" in (site.run / "report.html").read_text()


def test_a_folder_without_a_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "runs", "report", tmp_path)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert "no run.sqlite there" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_pdf_without_a_browser_is_one_line_before_anything_is_written(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = report(capsys, site, "--pdf")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "--pdf; found no browser that prints on the PATH" in ran.err
    assert not (site.run / "report.html").exists()


def test_a_pdf_lies_beside_the_page_with_everything_open(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: dict[Path, str] = {}

    def print_pdf(html: str, path: Path) -> None:
        printed[path] = html
        path.write_bytes(b"%PDF-")

    monkeypatch.setattr("fednet.reporting.printing.require_browser", lambda: "chromium")
    monkeypatch.setattr("fednet.reporting.printing.print_pdf", print_pdf)
    out = site.folder / "mail.html"
    assert report(capsys, site, "--out", out, "--pdf").code == 0
    assert [*printed] == [site.folder / "mail.pdf"]
    assert "<details open>" in printed[site.folder / "mail.pdf"] and "<details open>" not in out.read_text()


def test_a_page_that_has_the_pdfs_name_is_one_line_before_anything_is_written(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fednet.reporting.printing.require_browser", lambda: "chromium")
    ran = report(capsys, site, "--out", site.folder / "mail.pdf", "--pdf")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "the name of the PDF that --pdf puts beside the page" in ran.err
    assert not (site.folder / "mail.pdf").exists()


def test_a_page_that_cannot_be_written_is_a_failure(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.folder / "file").write_text("")
    ran = report(capsys, site, "--out", site.folder / "file" / "page.html")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)


def test_a_check_that_takes_long_is_not_taken_for_silence(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = RunStore(site.run)

    def outcome_of(folder: Path, certs: Path) -> tuple[list[str], list[str]]:
        write_json(folder / "status.json", {"updated": datetime.now(UTC).isoformat(), "workers": []})
        return [], []

    old = datetime.now(UTC) - timedelta(seconds=60)
    write_json(site.run / "status.json", {"updated": old.isoformat(), "workers": []})
    monkeypatch.setattr("fednet.commands.verify.outcome_of", outcome_of)
    try:
        assert report(capsys, site).code == 0
    finally:
        held.close()
    assert "No sign of life" not in (site.run / "report.html").read_text()
