import json
from pathlib import Path

import pytest

from tests.commands.running import Ran, run
from tests.federation import Federation, settings


@pytest.fixture
async def finished(tmp_path: Path) -> Path:
    """The model's file of a hospital that has taken part in a run, with its log and certificates beside it."""
    federation = Federation(tmp_path, run_settings=settings(rounds=2))
    await federation.run(*(federation.worker(number) for number in (1, 2, 3)))
    (tmp_path / "client2.audit.jsonl").rename(tmp_path / "client_2.audit.jsonl")
    return tmp_path / "client_2.pth"


def report(capsys: pytest.CaptureFixture[str], save: Path, *more: object) -> Ran:
    return run(capsys, "worker", "report", "--save", save, "--certs", save.parent / "certs", *more)


def test_a_hospital_gets_a_page_beside_its_log(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = report(capsys, finished)
    page = finished.with_name("client_2.report.html")
    assert (ran.code, ran.out) == (0, f"{page}: {page.stat().st_size:,} bytes\n")
    text = page.read_text()
    log = finished.with_suffix(".audit.jsonl").read_text()
    digests = {json.loads(line)["sha256"] for line in log.splitlines() if '"offered"' in line}
    assert len(digests) == 2 and all(digest in text for digest in digests)
    assert "client2: what left this hospital" in text and "2 updates of 1 run have left this hospital" in text


def test_a_record_that_does_not_hold_is_in_the_page_and_ends_with_code_1(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = finished.with_suffix(".audit.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    changed = next(line for line in lines if line["kind"] == "record")
    changed["signature"] = changed["signature"][:-2] + ("00" if changed["signature"][-2:] != "00" else "01")
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = report(capsys, finished, "--out", finished.parent / "page.html")
    assert ran.code == 1
    assert "What the coordinator showed this hospital does not hold" in (finished.parent / "page.html").read_text()


def test_a_page_that_has_the_pdfs_name_is_one_line(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fednet.reporting.printing.require_browser", lambda: "chromium")
    ran = report(capsys, finished, "--out", finished.parent / "mail.pdf", "--pdf")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert not (finished.parent / "mail.pdf").exists()


@pytest.mark.parametrize(
    ("options", "said"), [((), "neither --id nor --save"), (("--id", "7"), "client_7.audit.jsonl")]
)
def test_what_is_missing_is_said(
    options: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(capsys, "worker", "report", *options)
    assert (ran.code, said in ran.err, list(tmp_path.iterdir())) == (2, True, [])
