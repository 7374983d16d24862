"""A dashboard beside a run, in a process of its own: it reads the run's folder, and nothing of the run waits for it."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from fednet.commands.processes import CLI
from fednet.config import DASHBOARD_PORT, DEFAULT_HOST

DASHBOARD = f"{DEFAULT_HOST}:{DASHBOARD_PORT}"
TOKEN_FILE = "dashboard.token"  # noqa: S105 - in the run's folder
_STOP_WITHIN_S = 5.0

dashboard_option = click.option(
    "--dashboard",
    is_flag=False,
    flag_value=DASHBOARD,
    metavar="[HOST:PORT]",
    help=f"Show the run in a web page ({DASHBOARD}; port 0: any; elsewhere with TLS and a token).",
)


@contextlib.contextmanager
def dashboard_beside(
    folder: Path, listen: str, *, certs: Path, notice: Callable[[str], None], token_file: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Show the run in `folder` while the block lasts, from before it begins; `notice` says where, or why not.

    It never raises for a page that fails. The process ends with this one, however this one ends: it watches a pipe.
    """
    options = ["--run-dir", folder, "--listen", listen, "--certs", certs, "--wait", "--with-parent", "--json"]
    options += [] if token_file is None else ["--token-file", token_file]
    process = subprocess.Popen(  # noqa: S603 - our own program with our own arguments
        [sys.executable, *CLI, "dashboard", *map(str, options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C parks the run, and the page shows that
    )
    telling = threading.Thread(target=_tell, args=(process, notice), daemon=True)
    telling.start()
    try:
        yield process
    finally:
        _stop(process)
        telling.join()  # it reads to the end of what the process said


def _tell(process: subprocess.Popen[str], notice: Callable[[str], None]) -> None:
    """Tell what it says first, and read the rest so that it can go on: whoever reaches the page may cause some."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in itertools.islice(lines, 1):
            try:
                said = json.loads(line)
            except ValueError:
                notice(f"Warning: no dashboard: {line.strip().removeprefix('Error: ')}")
            else:
                where = f"; its token: {said['token_file']}" if said["token_file"] else ""
                notice(f"dashboard: {said['url']}{where}")
        while lines.read(2**16):
            pass


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
