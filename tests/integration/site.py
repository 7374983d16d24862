"""Three hospitals and a coordinator as real processes in a folder, for tests."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.integration.processes import Command

MODEL = ["--model", "small-cnn", "--image-size", "32", "--pretrained", "no", "--device", "cpu"]
RUN = [*MODEL, "--local-epochs", "1", "--batch-size", "16"]


def cli(folder: Path, *arguments: object, wait_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in `folder`."""
    with tempfile.TemporaryDirectory() as place:
        output, errors = Path(place, "output"), Path(place, "errors")
        with Command(folder, output, errors, *arguments) as command:
            code = command.wait(wait_s)
        return subprocess.CompletedProcess(
            [str(each) for each in arguments], code, output.read_text(), errors.read_text()
        )


def running(folder: Path, name: str, *arguments: object) -> Command:
    """Run a command beside the test, until its context ends; its output goes to NAME.log."""
    log = folder / f"{name}.log"
    return Command(folder, log, log, *arguments)


def wait_for(folder: Path, name: str, text: str, *, within_s: float = 120) -> None:
    """Wait until a line with `text` is in NAME.log."""
    deadline = time.monotonic() + within_s
    while text not in (folder / f"{name}.log").read_text():
        assert time.monotonic() < deadline, f"{text!r} not in {(folder / f'{name}.log').read_text()}"
        time.sleep(0.05)


def make_site(folder: Path) -> Path:
    """Put a split of phantoms for three hospitals into `folder`."""
    split = cli(
        folder, "split", "--phantoms", "--phantom-images", 200, "--phantom-size", 32, "--clients", 3, "--root", 20
    )
    assert split.returncode == 0, split.stderr
    return folder


def start(folder: Path, port: int, run: str, *more: object) -> list[object]:
    return ["coordinator", "start", "--port", port, "--run-dir", f"runs/{run}", "--workers", 3, *RUN, *more]


def join(port: int, number: int, *more: object) -> list[object]:
    where = ["--coordinator", f"127.0.0.1:{port}", "--save", f"client_{number}.pth"]
    return ["worker", "join", "--data", f"client{number}_data", *where, "--num-threads", 1, "--device", "cpu", *more]


def finish(folder: Path, port: int, run: str, *more: object) -> dict[str, Any]:
    """Run coordinator and three workers to the end; return history.json."""
    with contextlib.ExitStack() as stack:
        coordinator = stack.enter_context(running(folder, run, *start(folder, port, run, *more)))
        for number in (1, 2, 3):
            stack.enter_context(running(folder, f"{run}-{number}", *join(port, number)))
        assert coordinator.wait(120) == 0, (folder / f"{run}.log").read_text()
    history: dict[str, Any] = json.loads((folder / "runs" / run / "history.json").read_text())
    return history
