import logging
import sys
import threading
from pathlib import Path

import pytest

from fednet.commands import reporting
from fednet.commands.reporting import ReportEachRound, leave_report, report_at_end
from fednet.errors import BadInput, DiskFull, RunParked
from tests.reporting.made_up import make_run, round_document


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", rounds=2)
    return tmp_path / "run"


def test_a_run_that_ends_or_parks_leaves_a_report(finished: Path, tmp_path: Path) -> None:
    with report_at_end(finished, certs=tmp_path):
        pass
    page = finished / "report.html"
    assert "client5 was rejected in 2 of 2 rounds" in page.read_text()
    page.unlink()
    with pytest.raises(RunParked), report_at_end(finished, certs=tmp_path):
        raise RunParked("below quorum")
    assert page.exists()


def test_a_run_that_never_began_leaves_none(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput), report_at_end(finished, certs=tmp_path):
        raise BadInput("--run-dir", found="another coordinator at work in it")
    assert not (finished / "report.html").exists()


@pytest.mark.parametrize("failure", [DiskFull("no room left"), KeyError("weight"), MemoryError()])
def test_a_report_that_fails_is_a_line_in_the_log(
    failure: Exception, finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise failure

    monkeypatch.setattr(reporting, "write_report", fail)
    with caplog.at_level(logging.WARNING):
        leave_report(finished, certs=finished)
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert type(failure).__name__ in line.getMessage() and "no report was written" in line.getMessage()


def test_a_folder_that_takes_no_file_does_not_fail_the_run(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (finished / "report.html").mkdir()
    with report_at_end(finished, certs=tmp_path):
        pass
    assert "no report was written (StorageError" in caplog.text


class Commands:
    """Stands in for `cli.py`: each call leaves a line in a file, and ends as it is told."""

    def __init__(self, folder: Path, script: str) -> None:
        self.log = folder / "calls"
        self._program = folder / "program.py"
        self._program.write_text(
            f"import sys, time\nopen({str(self.log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{script}\n"
        )

    @property
    def cli(self) -> tuple[str]:
        return (str(self._program),)

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def wait_until(is_so: object, *, within_s: float = 20.0) -> None:
    assert callable(is_so)
    pause = threading.Event()
    for _ in range(int(within_s / 0.02)):
        if is_so():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to pass")


def test_a_report_is_asked_for_after_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = Commands(tmp_path, "")
    monkeypatch.setattr(reporting, "CLI", commands.cli)
    reports = ReportEachRound(tmp_path / "run", certs=tmp_path / "certs")
    for number in (1, 2):
        reports.round_committed(round_document(number))
        wait_until(lambda: len(commands.calls()) == number)  # noqa: B023 - called before the loop goes on
    reports.close()
    assert set(commands.calls()) == {f"runs report {tmp_path / 'run'} --certs {tmp_path / 'certs'}"}


def test_rounds_faster_than_reports_share_one_and_closing_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commands = Commands(tmp_path, "time.sleep(60)")
    monkeypatch.setattr(reporting, "CLI", commands.cli)
    reports = ReportEachRound(tmp_path / "run", certs=tmp_path)
    reports.round_committed(round_document(1))
    wait_until(commands.calls)
    for number in range(2, 50):
        reports.round_committed(round_document(number))
    reports.close()
    assert len(commands.calls()) == 1
    assert not reports._thread.is_alive()
    assert caplog.records == []


def test_a_report_of_a_round_that_fails_is_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commands = Commands(tmp_path, "sys.exit('Error: the disk is full')")
    monkeypatch.setattr(reporting, "CLI", commands.cli)
    reports = ReportEachRound(tmp_path / "run", certs=tmp_path)
    reports.round_committed(round_document(1))
    wait_until(lambda: "no report of this round was written (Error: the disk is full)" in caplog.text)
    reports.close()


def test_where_no_process_can_be_begun_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    reports = ReportEachRound(tmp_path / "run", certs=tmp_path)
    reports.round_committed(round_document(1))
    wait_until(lambda: "no report of this round was written" in caplog.text)
    reports.close()
