import logging
import os
import sys
import threading
from pathlib import Path

import pytest

from fednet.commands import reporting
from fednet.commands.reporting import ReportEachRound, leave_report, report_at_end
from fednet.errors import BadInput, DiskFull, FednetError, RunParked, StorageError
from fednet.storage.store import RunStore
from tests.reporting.made_up import make_run, round_document


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", rounds=2)
    return tmp_path / "run"


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Of which runs the record was checked."""
    checked: list[Path] = []

    def outcome_of(folder: Path, certs: Path) -> tuple[list[str], list[str]]:
        checked.append(folder)
        return [], []

    monkeypatch.setattr("fednet.commands.verify.outcome_of", outcome_of)
    return checked


def test_a_run_that_ends_leaves_a_report_with_its_record_checked(
    finished: Path, tmp_path: Path, checked: list[Path]
) -> None:
    with report_at_end(finished, certs=tmp_path):
        pass
    text = (finished / "report.html").read_text()
    assert "client5 was rejected in 2 of 2 rounds" in text
    assert checked == [finished] and "not checked" not in text


@pytest.mark.parametrize("failure", [RunParked("below quorum"), StorageError("run.sqlite: cannot be written")])
def test_a_run_that_parks_or_fails_leaves_a_report_at_once(
    failure: FednetError, finished: Path, tmp_path: Path, checked: list[Path]
) -> None:
    with pytest.raises(type(failure)), report_at_end(finished, certs=tmp_path):
        raise failure
    text = (finished / "report.html").read_text()
    assert checked == [] and "a run that stops waits for no check" in text


def test_the_record_of_a_large_run_is_not_checked_at_its_end(
    finished: Path, tmp_path: Path, checked: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_MOST_CHECKED_BYTES", 2**10)
    with report_at_end(finished, certs=tmp_path):
        pass
    text = (finished / "report.html").read_text()
    assert checked == [] and "checks at most 1.0 KiB, this one has" in text


def test_a_run_that_never_began_leaves_none(finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadInput), report_at_end(finished, certs=tmp_path):
        raise BadInput("--run-dir", found="another coordinator at work in it")
    assert not (finished / "report.html").exists()
    with pytest.raises(StorageError), report_at_end(tmp_path / "none", certs=tmp_path):
        raise StorageError("none: cannot be made")
    assert caplog.records == [] and not (tmp_path / "none").exists()


def test_a_run_that_another_coordinator_serves_is_left_alone(finished: Path, tmp_path: Path) -> None:
    held = RunStore(finished)
    try:
        with pytest.raises(StorageError), report_at_end(finished, certs=tmp_path):
            raise StorageError("certs: cannot be written")
    finally:
        held.close()
    assert not (finished / "report.html").exists()


def test_what_a_stopped_report_left_is_swept(finished: Path, tmp_path: Path) -> None:
    (finished / ".report.html.0a1b2c3d.tmp").write_text("half a page")
    with report_at_end(finished, certs=tmp_path):
        pass
    assert list(finished.glob(".*")) == []


@pytest.mark.parametrize("failure", [DiskFull("no room left"), KeyError("weight"), MemoryError()])
def test_a_report_that_fails_is_a_line_in_the_log(
    failure: Exception, finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise failure

    monkeypatch.setattr(reporting, "write_report", fail)
    with caplog.at_level(logging.WARNING):
        leave_report(finished, certs=finished, is_finished=True)
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
    asked = f"runs report {tmp_path / 'run'} --certs {tmp_path / 'certs'} --no-check --with-parent"
    assert set(commands.calls()) == {asked}


def test_ctrl_c_reaches_no_report_of_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tmp_path / "session"
    commands = Commands(tmp_path, f"import os\nopen({str(session)!r}, 'w').write(f'{{os.getsid(0)}}.')")
    monkeypatch.setattr(reporting, "CLI", commands.cli)
    reports = ReportEachRound(tmp_path / "run", certs=tmp_path)
    reports.round_committed(round_document(1))
    wait_until(lambda: session.exists() and session.read_text().endswith("."))
    reports.close()
    assert session.read_text() != f"{os.getsid(0)}."


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
