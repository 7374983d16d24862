"""Runs a whole federation as real processes of this program on this machine: what `demo` and `bench round` do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fednet.errors import FednetError

CLI = (str(Path(__file__).resolve().parents[2] / "cli.py"),)
_STOP_WITHIN_S = 15.0


class FederationFailed(FednetError):
    """One of the processes ended before the run did; the text holds the end of its log."""


def run_federation(
    folder: Path,
    *,
    data: Path,
    certs: Path,
    workers: int,
    coordinator_options: Sequence[str],
    worker_options: Mapping[int, Sequence[str]],
    shows_coordinator: bool,
    program: Sequence[str] = CLI,
) -> None:
    """Run a coordinator and `workers` workers in `folder` until the run has finished.

    `data` holds client1_data ... and server_data; `worker_options` adds options for single workers. Raises
    `FederationFailed` naming the process that failed first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    serve = coordinator_arguments(
        folder, data=data, certs=certs, port=port, workers=workers, options=coordinator_options
    )
    with contextlib.ExitStack() as stack:
        log = None if shows_coordinator else folder / "coordinator.log"
        coordinator = stack.enter_context(started(serve, log=log, program=program))
        processes = {}
        for number in range(1, workers + 1):
            join = worker_arguments(
                number,
                data=data,
                certs=certs,
                port=port,
                save=folder / f"client_{number}.pth",
                options=("--num-threads", threads, *worker_options.get(number, ())),
            )
            log = folder / f"client{number}.log"
            processes[log] = stack.enter_context(started(join, log=log, program=program))
        _wait(coordinator, processes, folder)


def coordinator_arguments(
    run: Path, *, data: Path, certs: Path, port: int, workers: int, options: Sequence[str]
) -> list[str]:
    """Return what follows `cli.py` to serve the run in the folder `run`; `data` holds server_data."""
    serve = ["coordinator", "start", "--data", str(data / "server_data"), "--port", str(port), "--certs", str(certs)]
    return [*serve, "--run-dir", str(run), "--workers", str(workers), *options]


def worker_arguments(
    number: int, *, data: Path, certs: Path, port: int, save: Path, options: Sequence[str]
) -> list[str]:
    """Return what follows `cli.py` to be a worker of a coordinator here; `data` holds client1_data ..."""
    join = ["worker", "join", "--data", str(data / f"client{number}_data"), "--id", str(number)]
    join += ["--coordinator", f"127.0.0.1:{port}", "--save", str(save), "--certs", str(certs), "--consent", "none"]
    return [*join, *options]


@contextlib.contextmanager
def started(
    arguments: Sequence[str], *, log: Path | None, program: Sequence[str] = CLI
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `cli.py ARGUMENTS` for as long as the block lasts; its output goes to `log`, or to ours."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log is not None else None
        process = subprocess.Popen(  # noqa: S603 - our own program with our own arguments
            [sys.executable, *program, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            _stop(process)


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait(coordinator: subprocess.Popen[bytes], workers: dict[Path, subprocess.Popen[bytes]], folder: Path) -> None:
    while coordinator.poll() is None:
        for log, worker in workers.items():
            if worker.poll() not in (None, 0):
                raise FederationFailed(f"{log.stem} failed: {_end_of(log)}")
        time.sleep(0.05)
    if coordinator.returncode != 0:
        raise FederationFailed(f"the coordinator failed: {_end_of(folder / 'coordinator.log')}")
    for worker in workers.values():
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(_STOP_WITHIN_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_of(log: Path) -> str:
    if not log.exists():
        return "see above"
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'no output'} (all of it: {log})"
