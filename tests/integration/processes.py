"""Commands of FedNet as processes of their own, without the seconds that each needs to load torch.

The standard library's fork server loads what FedNet stands on, once, and forks itself for every command. What is ours
is loaded anew in each of them, and nothing that computes has run in the server.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "cli.py"

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["torch", "torchvision", "sklearn.metrics", "scipy.optimize", "matplotlib.figure"])


class Command:
    """A command that runs, with as much of `subprocess.Popen` as tests need; killed where its context ends."""

    def __init__(self, folder: Path, output: Path, errors: Path, *arguments: object) -> None:
        """Start `cli.py ARGUMENTS` in `folder`; what it says is added to `output` and `errors`."""
        for path in (output, errors):
            path.touch()  # whoever waits for a line in it may read at once
        given = tuple(map(str, arguments))
        self._process = _SERVER.Process(target=_run, args=(folder, output, errors, given, dict(os.environ)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def poll(self) -> int | None:
        """Return what it exited with (-N: by signal N), None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until it has ended; return what it exited with.

        Raises `subprocess.TimeoutExpired`.
        """
        self._process.join(timeout_s)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout_s or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, if it runs, and wait until it is gone."""
        self._process.kill()
        self._process.join()


def _run(folder: Path, output: Path, errors: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
    """Be what `python cli.py ARGUMENTS` would be in this directory and environment."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.argv = [str(PROGRAM), *arguments]
    multiprocessing.set_start_method(None, force=True)  # the platform's, no longer this server's
    runpy.run_path(str(PROGRAM), run_name="__main__")
