import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from fednet.commands.beside import dashboard_beside
from fednet.commands.dashboard import place_of
from fednet.commands.processes import CLI
from fednet.errors import BadInput
from fednet.security.authority import create_authority
from tests.commands.running import run
from tests.reporting.made_up import begun, commit, make_run, round_document

WITHIN_S = 60


@dataclass
class Page:
    process: subprocess.Popen[str]
    url: str
    token_file: str | None


@contextlib.contextmanager
def served(folder: Path, *options: object, listen: str = "127.0.0.1:0") -> Iterator[Page]:
    arguments = ["dashboard", "--run-dir", folder, "--listen", listen, "--json", "--with-parent", *options]
    with subprocess.Popen(
        [sys.executable, *CLI, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield Page(process, **json.loads(process.stdout.readline()))
        finally:
            process.kill()


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def test_a_running_run_is_shown_as_it_goes_on_and_the_page_ends_with_its_parent(tmp_path: Path) -> None:
    store = begun(tmp_path)
    with served(tmp_path) as page, httpx.stream("GET", f"{page.url}events", timeout=WITHIN_S) as stream:
        told = events(stream.iter_lines())
        assert next(told)[1]["rounds_done"] == 0
        commit(tmp_path, round_document(1))
        assert next(told)[1]["rounds_done"] == 1
        assert page.process.stdin is not None
        page.process.stdin.close()
        assert page.process.wait(WITHIN_S) == 0, "though somebody watches"
    store.close()


def test_interrupting_it_is_a_good_end(tmp_path: Path) -> None:
    make_run(tmp_path, rounds=1)
    with served(tmp_path) as page:
        assert httpx.get(f"{page.url}api/run", timeout=WITHIN_S).json()["rounds_done"] == 1
        page.process.send_signal(signal.SIGINT)
        assert page.process.wait(WITHIN_S) == 0


def test_a_folder_without_a_run_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run(capsys, "dashboard", "--run-dir", tmp_path / "none")
    assert ran.code == 2 and "no run.sqlite there" in ran.err


def test_for_others_to_reach_it_needs_a_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, rounds=1)
    certs = tmp_path / "certs"
    ran = run(capsys, "dashboard", "--run-dir", tmp_path, "--listen", "0.0.0.0:0", "--certs", certs)
    assert ran.code == 2 and f"found no {certs}/coordinator/cert.pem" in ran.err


def test_off_the_loopback_address_there_is_tls_and_a_token(tmp_path: Path) -> None:
    run_dir, certs = tmp_path / "run", tmp_path / "certs"
    make_run(run_dir, rounds=1)
    create_authority(certs, now=datetime.now(UTC)).ensure_coordinator([], now=datetime.now(UTC))
    trusting = ssl.create_default_context(cafile=certs / "authority" / "ca.pem")
    with served(run_dir, "--certs", certs, listen="0.0.0.0:0") as page:
        address, _, token = page.url.partition("?token=")
        assert address.startswith("https://localhost:") and len(token) >= 40
        with httpx.Client(verify=trusting, timeout=WITHIN_S) as browser:
            assert browser.get(f"{address}api/run").status_code == 401
            assert browser.get(f"{address}api/run", headers={"host": "evil.example"}).status_code == 403
            opened = browser.get(f"{address}?token={token}", follow_redirects=True)
            assert (opened.status_code, "token" in str(opened.url)) == (200, False)
            assert browser.get(f"{address}api/run").json()["rounds_done"] == 1
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(address.replace("https", "http"), timeout=WITHIN_S)


def test_a_token_file_is_made_once_for_its_owner_alone_and_nothing_prints_it(tmp_path: Path) -> None:
    run_dir, certs, kept = tmp_path / "run", tmp_path / "certs", tmp_path / "token"
    make_run(run_dir, rounds=1)
    create_authority(certs, now=datetime.now(UTC)).ensure_coordinator([], now=datetime.now(UTC))
    for _ in range(2):
        with served(run_dir, "--certs", certs, "--token-file", kept, listen="0.0.0.0:0") as page:
            assert ("token" in page.url, page.token_file) == (False, str(kept))
            assert kept.stat().st_mode & 0o777 == 0o600
            token = kept.read_text()
    assert kept.read_text() == token


def test_beside_a_run_it_is_there_before_the_run_and_gone_after(tmp_path: Path) -> None:
    notices: list[str] = []
    with dashboard_beside(tmp_path / "run", "127.0.0.1:0", certs=tmp_path, notice=notices.append) as process:
        assert process.stdin is not None
        url = _waited_for(notices).removeprefix("dashboard: ")
        assert httpx.get(f"{url}api/run", timeout=WITHIN_S).status_code == 404
        make_run(tmp_path / "run", rounds=1)
        assert httpx.get(f"{url}api/run", timeout=WITHIN_S).json()["rounds_done"] == 1
        assert os.getpgid(process.pid) == process.pid, "Ctrl-C at the terminal is not for it"
    assert process.returncode is not None
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert len(notices) == 1


def test_a_page_that_cannot_be_is_a_warning_and_stops_nobody(tmp_path: Path) -> None:
    notices: list[str] = []
    with dashboard_beside(tmp_path, "0.0.0.0:0", certs=tmp_path, notice=notices.append) as process:
        assert process.wait(WITHIN_S) == 2
        said = _waited_for(notices)
    assert said.startswith("Warning: no dashboard: --listen 0.0.0.0:0; found no ")


def test_whatever_a_page_says_later_is_not_the_run_s_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.py").write_text(
        "import sys\nprint('Error: first')\nfor _ in range(10**5): print('socket.accept() out of system resource')\n"
        "sys.stdout.close()\nsys.stdin.read()\n"
    )
    monkeypatch.setattr("fednet.commands.beside.CLI", [str(tmp_path / "page.py")])
    notices: list[str] = []
    with dashboard_beside(tmp_path, "127.0.0.1:0", certs=tmp_path, notice=notices.append) as process:
        _waited_for(notices)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WITHIN_S) == 0, "all that it said was taken"
    assert notices == ["Warning: no dashboard: first"]


def test_a_renewed_certificate_is_shown_without_a_new_start(tmp_path: Path) -> None:
    run_dir, certs = tmp_path / "run", tmp_path / "certs"
    make_run(run_dir, rounds=1)
    authority = create_authority(certs, now=datetime.now(UTC))
    authority.ensure_coordinator([], now=datetime.now(UTC))
    trusting = ssl.create_default_context(cafile=certs / "authority" / "ca.pem")

    def shown(url: str) -> str:
        port = int(url.partition("?")[0].rstrip("/").rpartition(":")[2])
        raw = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
        with trusting.wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")

    with served(run_dir, "--certs", certs, listen="0.0.0.0:0") as page:
        assert shown(page.url).split() == (certs / "coordinator" / "cert.pem").read_text().split()
        authority.make_coordinator([], now=datetime.now(UTC))
        assert shown(page.url).split() == (certs / "coordinator" / "cert.pem").read_text().split()
        (certs / "coordinator" / "cert.pem").write_text("half of one")
        assert shown(page.url), "the one before, as long as this one cannot be used"


def test_what_is_no_terminal_is_shown_no_token(tmp_path: Path) -> None:
    run_dir, certs = tmp_path / "run", tmp_path / "certs"
    make_run(run_dir, rounds=1)
    create_authority(certs, now=datetime.now(UTC)).ensure_coordinator([], now=datetime.now(UTC))
    arguments = ["dashboard", "--run-dir", run_dir, "--listen", "0.0.0.0:0", "--certs", certs, "--with-parent"]
    command = [sys.executable, *CLI, *map(str, arguments)]
    said = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    assert f"(its token: {run_dir / 'dashboard.token'})" in said
    assert (run_dir / "dashboard.token").read_text().strip() not in said


@pytest.mark.parametrize(
    ("content", "mode", "found"),
    [
        (b"a" * 30, 0o644, "mode 0644: others can read it"),
        ("\u00e9".encode() * 30, 0o600, "characters that are not ASCII"),
        (b"short", 0o600, "5 characters"),
    ],
)
def test_a_token_file_that_cannot_be_one_is_refused(tmp_path: Path, content: bytes, mode: int, found: str) -> None:
    certs, kept = tmp_path / "certs", tmp_path / "token"
    create_authority(certs, now=datetime.now(UTC)).ensure_coordinator([], now=datetime.now(UTC))
    kept.write_bytes(content)
    kept.chmod(mode)
    with pytest.raises(BadInput, match=f"--token-file {kept}; found {found}"):
        place_of("0.0.0.0:0", certs=certs, token_file=kept)


def test_a_token_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    create_authority(tmp_path, now=datetime.now(UTC)).ensure_coordinator([], now=datetime.now(UTC))
    with pytest.raises(BadInput, match=r"--token-file .*; found Is a directory"):
        place_of("0.0.0.0:0", certs=tmp_path, token_file=tmp_path)


def _waited_for(notices: list[str]) -> str:
    give_up_s = time.monotonic() + WITHIN_S
    while not notices:
        assert time.monotonic() < give_up_s, "nothing was said"
        time.sleep(0.02)
    return notices[0]
