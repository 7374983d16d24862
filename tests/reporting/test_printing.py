import os
import shutil
import tempfile
from pathlib import Path

import pytest

from fednet.errors import BadInput, StorageError
from fednet.reporting import printing
from fednet.reporting.printing import BROWSERS, NotPrinted, print_pdf, require_browser


def put_browser(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `name` the only browser on the PATH: a shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    tools = folder / "tools"
    tools.mkdir()
    for tool in ("sh", "cp", "sleep"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{tools}")


def test_a_page_is_printed_by_the_browser_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        'for a; do case "$a" in --print-to-pdf=*) out=${a#*=};; file://*) page=${a#file://};; esac; done\ncp $page $out'
    )
    put_browser(tmp_path, "microsoft-edge", script, monkeypatch)
    print_pdf("<p>page</p>", tmp_path / "out.pdf")
    assert (tmp_path / "out.pdf").read_text() == "<p>page</p>"


@pytest.mark.parametrize(
    ("script", "said"), [("echo broken >&2; exit 3", "(code 3): broken"), ("exit 0", "(code 0): it said")]
)
def test_a_browser_that_fails_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    put_browser(tmp_path, "chromium", script, monkeypatch)
    with pytest.raises(NotPrinted) as failed:
        print_pdf("page", tmp_path / "out.pdf")
    assert said in str(failed.value) and "\n" not in str(failed.value)
    assert not (tmp_path / "out.pdf").exists()


def test_a_browser_that_takes_too_long_ends_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    put_browser(tmp_path, "chromium", f"sleep 60 > {tmp_path / 'pipe'} & sleep 60", monkeypatch)
    monkeypatch.setattr(printing, "_WITHIN_S", 0.5)
    with pytest.raises(NotPrinted, match=r"timed out after 0\.5 seconds"):
        print_pdf("page", tmp_path / "out.pdf")
    os.set_blocking(reading, True)
    assert os.read(reading, 1) == b""  # once nobody holds the other end
    os.close(reading)


def test_no_room_for_temporary_files_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_browser(tmp_path, "chromium", "exit 0", monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    with pytest.raises(StorageError, match="cannot be written"):
        print_pdf("page", tmp_path / "out.pdf")


def test_without_a_browser_it_is_said_which_would_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput) as failed:
        require_browser()
    assert all(name in str(failed.value) for name in BROWSERS) and "\n" not in str(failed.value)


@pytest.mark.timeout(180)
def test_a_real_browser_makes_a_pdf(tmp_path: Path) -> None:
    try:
        require_browser()
    except BadInput as exc:
        pytest.skip(str(exc))
    print_pdf("<!doctype html><p>Ein Bericht</p>", tmp_path / "out.pdf")
    assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF-")
