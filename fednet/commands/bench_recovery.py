"""`cli.py bench recovery`: kills the coordinator within a round, and times how long the round stands still."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fednet.commands.bench_wire import on_stderr, print_machine
from fednet.commands.options import json_option
from fednet.errors import FednetError

_WITHIN_S = 300.0
_POLL_S = 0.02


@click.command("recovery")
@click.option("--workers", type=click.IntRange(2, 64), default=4, show_default=True, help="How many.")
@click.option("--model", default="resnet18", show_default=True, help="resnet18 or small-cnn.")
@json_option
def bench_recovery(workers: int, model: str, as_json: bool) -> None:
    """kill -9 of the coordinator when a part of the updates has come: seconds from its restart until all goes on."""
    from fednet.bench.machine import machine

    with tempfile.TemporaryDirectory(prefix="fednet-recovery-") as name:
        found = _measure(Path(name), workers, model)
    document: dict[str, Any] = {
        "bench": "recovery",
        "machine": machine(),
        "settings": {"workers": workers, "model": model},
        **found,
        "meaning": {
            "ours": "s: from the coordinator's start until it serves the round again with every worker connected",
            "reference": "s: from its start until it listens, of which Python's imports and the test set are most",
            "ratio": "ours / reference",
            "delivered": "workers whose updates were durable when it was killed",
            "trainings": "how often each worker trained in that round",
        },
    }
    if as_json:
        click.echo(json.dumps(document))
        return
    click.echo(
        f"killed with {found['delivered']} of {workers} updates durable ({model}); from its restart: listening after "
        f"{found['reference']:.1f} s, all workers back in the round after {found['ours']:.1f} s"
    )
    click.echo(f"trainings of each worker in that round: {', '.join(map(str, found['trainings']))}")
    print_machine(document)


def _measure(folder: Path, workers: int, model: str) -> dict[str, Any]:
    from data.phantoms import write_phantoms
    from data.splitting import SplitSettings
    from fednet.commands.demo import split_into
    from fednet.commands.processes import coordinator_arguments, free_port, started, worker_arguments

    write_phantoms(folder / "phantoms", training=160 * workers, testing=32, seed=0, size=64)
    split_into(folder / "data", folder / "phantoms", SplitSettings(clients=workers))
    run, port = folder / "run", free_port()
    data, certs = folder / "data", folder / "certs"
    options = ["--model", model, "--rounds", "1", "--image-size", "64", "--pretrained", "no"]
    options += ["--local-epochs", "1", "--batch-size", "16"]
    serve = coordinator_arguments(run, data=data, certs=certs, port=port, workers=workers, options=options)
    saves = [folder / f"client_{number}.pth" for number in range(1, workers + 1)]
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(started(serve, log=folder / "first.log"))
        for number, save in enumerate(saves, start=1):
            join = worker_arguments(
                number, data=data, certs=certs, port=port, save=save, options=("--num-threads", "1")
            )
            stack.enter_context(started(join, log=folder / f"client{number}.log"))
        watch = _Trainings(saves)
        _wait(lambda: _durable(run) >= 1, watch, "the first update to become durable")
        first.kill()
        first.wait()
        delivered = _durable(run)
        on_stderr(f"killed with {delivered} of {workers} updates durable")
        began = time.perf_counter()
        again = stack.enter_context(started([*serve, "--resume"], log=folder / "again.log"))
        log = folder / "again.log"
        _wait(lambda: "listening on" in log.read_text(errors="replace"), watch, "it to listen")
        listening = time.perf_counter() - began
        _wait(
            lambda: _connected(run, again.pid) == workers or again.poll() is not None, watch, "the workers to be back"
        )
        ours = time.perf_counter() - began
        _wait(lambda: again.poll() is not None, watch, "the run to finish")
        if again.returncode != 0:
            raise FednetError(f"the resumed run failed: {log.read_text(errors='replace').strip().splitlines()[-1]}")
    return {
        "samples": [ours],
        "ours": ours,
        "reference": listening,
        "ratio": ours / listening,
        "delivered": delivered,
        "trainings": watch.counts(),
    }


class _Trainings:
    """How often each hospital's own model was written: once a training."""

    def __init__(self, saves: list[Path]) -> None:
        self._seen: dict[Path, set[int]] = {save: set() for save in saves}

    def look(self) -> None:
        """Note what has been written since."""
        for save, moments in self._seen.items():
            with contextlib.suppress(FileNotFoundError):
                moments.add(save.stat().st_mtime_ns)

    def counts(self) -> list[int]:
        """Return the number for each."""
        self.look()
        return [len(moments) for moments in self._seen.values()]


def _wait(condition: Callable[[], bool], watch: _Trainings, what: str) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while not condition():
        watch.look()
        if time.monotonic() > deadline:
            raise FednetError(f"waited {_WITHIN_S:.0f} s in vain for {what}")
        time.sleep(_POLL_S)


def _durable(run: Path) -> int:
    import sqlite3

    from fednet.storage.store import reading

    try:
        with reading(run) as database:
            return int(database.execute("SELECT COUNT(*) FROM updates WHERE round = 1").fetchone()[0])
    except sqlite3.Error:
        return 0


def _connected(run: Path, pid: int) -> int:
    from fednet.reporting.status import live_status

    status = live_status(run)
    if status is None or status["pid"] != pid:
        return 0
    return sum(worker["connected"] for worker in status["workers"])
