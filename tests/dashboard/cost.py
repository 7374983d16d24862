"""What the dashboard costs: `python -m tests.dashboard.cost [WORKERS [ROUNDS]]` prints CPU time for each kind of look.

The run is made up, and of that size; what is measured is a feed of its own in this process, without a browser.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fednet.config import WorkerName
from fednet.dashboard.feed import Feed
from fednet.reporting.reporter import WorkerView
from fednet.reporting.status import StatusFile
from tests.reporting.made_up import commit, make_run, names, round_document

REPEATS = 20


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU seconds that this process spends on `work`."""
    began = time.process_time()
    work()
    return time.process_time() - began


def renew_status(folder: Path, workers: int, number: int) -> None:
    """Write the status file that a coordinator with so many workers in training renews each second."""
    now = datetime.now(UTC)
    views = [
        WorkerView(
            name=WorkerName(name),
            activity="training",
            fraction=number / 100,
            remaining_s=12.3456,
            images_per_s=123.456,
            loss=0.54321,
            samples=1000,
            device="NVIDIA H100",
            last_seen=now,
            certificate_expires=now,
        )
        for name in names(workers)
    ]
    StatusFile(folder).show("waiting", phase="collecting", round_number=1, round_s=1.0, views=views, declined={})


def measure(folder: Path, *, workers: int, rounds: int) -> dict[str, float]:
    """Return CPU seconds, the median of repeats where there are any, and bytes."""
    store = make_run(folder, rounds=rounds, workers=workers, is_running=True)
    assert store is not None
    feed = Feed(folder)
    found = {"status written": statistics.median(cpu_s(lambda: renew_status(folder, workers, 1)) for _ in range(5))}
    found["first look"] = cpu_s(feed.look)
    found["nothing changed"] = statistics.median(cpu_s(feed.look) for _ in range(REPEATS))
    renewed, committed = [], []
    for number in range(REPEATS):
        renew_status(folder, workers, number)
        renewed.append(cpu_s(feed.look))
    for number in range(rounds + 1, rounds + 6):
        commit(folder, round_document(number, workers=workers))
        renew_status(folder, workers, number)
        committed.append(cpu_s(feed.look))
    found |= {"status renewed": statistics.median(renewed), "round committed": statistics.median(committed)}
    found["verdicts"] = cpu_s(lambda: json.dumps(feed.verdicts()))
    found["one round"] = cpu_s(lambda: feed.round(rounds))
    found["overview bytes"] = len(feed.look())
    found["status bytes"] = (folder / "status.json").stat().st_size
    store.close()
    return found


if __name__ == "__main__":
    asked = [int(each) for each in sys.argv[1:]] + [1000, 200][len(sys.argv) - 1 :]
    with tempfile.TemporaryDirectory() as scratch:
        for name, value in measure(Path(scratch), workers=asked[0], rounds=asked[1]).items():
            print(f"{name}: {value:.0f}" if name.endswith("bytes") else f"{name}: {1000 * value:.1f} ms of CPU")
