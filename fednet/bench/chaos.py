"""A run whose processes are killed again and again, beside the same run undisturbed: do both give the same model?

All are real processes of `cli.py` over mutual TLS, forked from a server that has imported torch: a restart then costs
what the program does, not what Python imports.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from fednet import failpoints
from fednet.errors import FednetError
from fednet.storage.journal import read_journal
from fednet.storage.store import reading

Entry = Callable[[list[str]], None]
"""The command line, importable by name: it exits its process."""

COORDINATOR = "coordinator"
_WITHIN_S = 300.0  # no progress for so long is a failure
_POLL_S = 0.02
_SOON = 0.3  # the share of kills that do not wait for progress
_STARTS_WITHIN_S = 3.0
_ROUND_S = 0.4  # about what an undisturbed round takes
_HITS = {"disk": (1, 2, 3, 5, 8)}
_ONCE_EACH = (1, 1, 1, 1, 1)
"""At which passing of a failpoint its kills strike, one process after the other; states are passed once a round."""
_PRELOADED = ["fednet.commands.serving", "fednet.commands.worker", "fednet.worker.service", "data.loaders", "rich.live"]


class ChaosFailed(FednetError):
    """The disturbed run did not come to its end, or not to the same one."""


@dataclass(frozen=True, kw_only=True)
class ChaosSite:
    """A run's folder, and what follows `cli.py` to start each of its processes, for the first time and again."""

    folder: Path
    coordinator: Sequence[str]
    workers: Sequence[Sequence[str]]  # of client1, client2, ...
    saves: Sequence[Path]  # where each keeps its own model

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.folder / "run"

    @property
    def names(self) -> list[str]:
        """The workers' names."""
        return [f"client{number}" for number in range(1, len(self.workers) + 1)]


class Processes:
    """The run's processes, by name; each can be started again after it has died."""

    def __init__(self, site: ChaosSite, entry: Entry) -> None:
        self._site = site
        self._entry = entry
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOADED)
        self.names = [COORDINATOR, *site.names]
        self._alive: dict[str, ForkServerProcess] = {}

    def start(self, name: str, *, failpoint: str = "") -> None:
        """Start what is not running."""
        site = self._site
        arguments = site.coordinator if name == COORDINATOR else site.workers[site.names.index(name)]
        log = site.folder / f"{name}.log"
        process = self._context.Process(target=_be, args=(self._entry, list(arguments), log, failpoint), daemon=True)
        process.start()
        self._alive[name] = process

    def kill(self, name: str) -> None:
        """Kill it as the kernel would: SIGKILL, nothing is flushed or closed."""
        self._alive[name].kill()
        self._alive[name].join()

    def exit_code(self, name: str) -> int | None:
        """Return how it ended, None while it runs."""
        return self._alive[name].exitcode

    def stop(self) -> None:
        """End all that is left."""
        for process in self._alive.values():
            if process.is_alive():
                process.kill()
            process.join()


def _be(entry: Entry, arguments: list[str], log: Path, failpoint: str) -> None:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ.pop(failpoints.VARIABLE, None)
    if failpoint:
        os.environ[failpoints.VARIABLE] = failpoint
    entry(arguments)


@contextlib.contextmanager
def processes(site: ChaosSite, entry: Entry) -> Iterator[Processes]:
    """Yield the processes of a run, none started; all are gone when the block ends."""
    site.folder.mkdir(parents=True, exist_ok=True)
    found = Processes(site, entry)
    try:
        yield found
    finally:
        found.stop()


def undisturbed(site: ChaosSite, entry: Entry) -> float:
    """Run to the end and return its seconds; raises `ChaosFailed`."""
    began = time.perf_counter()
    with processes(site, entry) as running:
        for name in running.names:
            running.start(name)
        _finish(site, running)
    return time.perf_counter() - began


@dataclass
class Kills:
    """Who was killed, how often."""

    by_name: dict[str, int] = field(default_factory=dict)

    def add(self, name: str) -> None:
        """Count one."""
        self.by_name[name] = self.by_name.get(name, 0) + 1

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(self.by_name.values())


def disturbed(site: ChaosSite, entry: Entry, *, kills: int, rounds: int, seed: int) -> tuple[float, Kills]:
    """Run to the end while `kills` processes are killed at random instants, spread over all rounds.

    Every second one is the coordinator; some come soon after another, while processes start and recover. Returns
    (seconds, kills); raises `ChaosFailed`.
    """
    chance = random.Random(seed)  # noqa: S311 - instants, no secrets
    done = Kills()
    began = time.perf_counter()
    with processes(site, entry) as running:
        for name in running.names:
            running.start(name)
        while done.count < kills:
            if chance.random() < _SOON:
                time.sleep(chance.uniform(0.0, _STARTS_WITHIN_S))
            else:
                _await_round(site, running, at_least=done.count * rounds // kills)
                time.sleep(chance.uniform(0.0, _ROUND_S))
            if all(running.exit_code(name) is not None for name in running.names):
                raise ChaosFailed(f"the run was over after {done.count} kills: it needs more rounds")
            victim = COORDINATOR if chance.random() < 0.5 else chance.choice(running.names[1:])
            if running.exit_code(victim) is None:
                running.kill(victim)
                done.add(victim)
                running.start(victim)
        _finish(site, running)
    return time.perf_counter() - began, done


def at_failpoint(site: ChaosSite, entry: Entry, *, name: str, victim: str, action: str, times: int) -> int:
    """Run to the end while `victim` dies (fails, stalls) at a failpoint, `times` times; return how often it did."""
    struck = 0
    with processes(site, entry) as running:
        for other in running.names:
            if other != victim:
                running.start(other)
        for hit in _HITS.get(name.split(".")[0], _ONCE_EACH)[:times]:
            running.start(victim, failpoint=f"{name}:{action}:{hit}")
            if not _await_end(site, running, victim):
                return struck + (action == "stall")  # else the run finished before that hit, or in spite of it
            struck += 1
        running.start(victim)
        _finish(site, running)
    return struck


def _await_end(site: ChaosSite, running: Processes, victim: str) -> bool:
    """Wait until the victim has died or failed; return False where the run finished instead."""
    deadline = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline:
        _require_sane(site, running, spared=victim)
        code = running.exit_code(victim)
        if code == 0:
            _finish(site, running)
            return False
        if code is not None:
            return True
        time.sleep(_POLL_S)
    raise ChaosFailed(f"{victim} neither ended nor failed within {_WITHIN_S:.0f} s: see {site.folder}")


def _await_round(site: ChaosSite, running: Processes, *, at_least: int) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while (rounds_done(site.run) or 0) < at_least:
        _require_sane(site, running)
        if time.monotonic() > deadline:
            raise ChaosFailed(f"round {at_least} was not committed within {_WITHIN_S:.0f} s: see {site.folder}")
        time.sleep(_POLL_S)


def _finish(site: ChaosSite, running: Processes) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while any(running.exit_code(name) is None for name in running.names):
        _require_sane(site, running)
        if time.monotonic() > deadline:
            raise ChaosFailed(f"the run did not finish within {_WITHIN_S:.0f} s: see {site.folder}")
        time.sleep(_POLL_S)


def _require_sane(site: ChaosSite, running: Processes, *, spared: str = "") -> None:
    """Raise `ChaosFailed` where a process has ended by itself that should not have."""
    for name in running.names:
        if name != spared and running.exit_code(name) not in (None, 0):
            lines = (site.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            raise ChaosFailed(f"{name} ended with {running.exit_code(name)}: {lines[-1] if lines else 'no output'}")


# What came of it


def rounds_done(run: Path) -> int | None:
    """Return how many rounds a run has committed, None where it was not begun."""
    try:
        with reading(run) as database:
            if database.execute("SELECT COUNT(*) FROM run").fetchone()[0] == 0:
                return None
            return int(database.execute("SELECT COUNT(*) FROM rounds").fetchone()[0])
    except sqlite3.Error:
        return None


def models_of(run: Path) -> list[str]:
    """Return the digest of the global model after each round."""
    with reading(run) as database:
        return [digest for (digest,) in database.execute("SELECT model_sha256 FROM rounds ORDER BY round")]


def complaints(site: ChaosSite, *, may_miss: str = "") -> list[str]:
    """Return what is wrong with a finished run: updates missing, counted twice, or not as acknowledged.

    `may_miss`: a worker that told the coordinator that it fails, so that nobody waited for it.
    """
    with reading(site.run) as database:
        documents = [json.loads(text) for (text,) in database.execute("SELECT document FROM rounds ORDER BY round")]
    found = []
    for document in documents:
        counted = [update["worker"] for update in document["updates"]]
        if counted not in (site.names, [name for name in site.names if name != may_miss]):
            found.append(f"round {document['round']} counted {', '.join(counted)}")
    for name, save in zip(site.names, site.saves, strict=True):
        found += _unkept_promises(name, save, documents)
    return found


def _unkept_promises(worker: str, save: Path, documents: list[dict[str, Any]]) -> list[str]:
    counted = {
        document["round"]: update["sha256"]
        for document in documents
        for update in document["updates"]
        if update["worker"] == worker
    }
    acknowledged = [line for line in read_journal(save.with_suffix(".audit.jsonl")) if line["kind"] == "acknowledged"]
    return [
        f"round {line['round']}: {worker}'s acknowledged update was not counted"
        for line in acknowledged
        if counted.get(line["round"]) != line["sha256"]
    ]
