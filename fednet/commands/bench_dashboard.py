"""`cli.py bench dashboard`: how soon the page of a large run is there, and what it costs the coordinator."""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from fednet.commands.bench_wire import NO_TRAINING, on_stderr, print_meaning
from fednet.commands.options import json_option
from fednet.errors import FednetError

_STARTS_WITHIN_S = 60.0
_MORE_ROUNDS = 5  # committed while the page is watched
_HOSPITALS = 4
_MEANING = {
    "ours": "s, median: from the start of a navigation, cache empty, to the page's first content; the goal is 1",
    "reference": "s, median: the same of an empty page in the same browser",
    "ratio": "ours / reference",
    "shown": "s, median: to the whole run, drawn",
    "update": "s, median: from the arrival of the news of a second to the picture of it; the goal is 0.1",
    "new_round": "s, median: the same where a round was committed, whose verdicts are asked for",
    "processor": "s of processor time: a page that is watched, beside the coordinator of a `bench round`; began: until "
    "the page listened; share: the page's after that, of the coordinator's; the goal is 0.02; share_of_all: with it",
}


@click.command("dashboard")
@click.option("--workers", type=click.IntRange(5, 5000), default=1000, show_default=True, help="Of a made-up run.")
@click.option("--rounds", type=click.IntRange(1, 2000), default=200, show_default=True, help="That it has behind it.")
@click.option("--repeats", type=click.IntRange(1, 100), default=5, show_default=True, help="How often it is opened.")
@click.option("--updates", type=click.IntRange(1, 1000), default=10, show_default=True, help="Seconds it is watched.")
@click.option(
    "--beside",
    type=click.IntRange(0, 1000),
    default=6,
    show_default=True,
    help="Rounds of 4 workers and resnet18 that its processor time is compared with; 0: none.",
)
@json_option
def bench_dashboard(workers: int, rounds: int, repeats: int, updates: int, beside: int, as_json: bool) -> None:
    """The live page of a run of many workers in a headless Chromium: first paint, updates, processor time."""
    from fednet.bench.browser import chromium
    from fednet.bench.machine import machine

    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as name, chromium() as browser:
        samples = _opened(Path(name), browser, workers=workers, rounds=rounds, repeats=repeats, updates=updates)
        machine_told = machine() | {"browser": browser.version}
    medians = {key: statistics.median(values) for key, values in samples.items()}
    document: dict[str, Any] = {
        "bench": "dashboard",
        "machine": machine_told,
        "settings": {
            "workers": workers,
            "rounds": rounds,
            "repeats": repeats,
            "updates": updates,
            "beside": beside,
        },
        "samples": samples,
        "ours": medians["painted"],
        "reference": medians["empty"],
        "ratio": medians["painted"] / medians["empty"],
        **{key: medians[key] for key in ("shown", "update", "new_round")},
        "processor": _processor(beside) if beside else None,
        "meaning": _MEANING,
    }
    if as_json:
        click.echo(json.dumps(document))
        return
    _print(document)


def _opened(
    folder: Path, browser: Any, *, workers: int, rounds: int, repeats: int, updates: int
) -> dict[str, list[float]]:
    from fednet.bench.browser import first_paints
    from fednet.bench.browser import updates as seconds_of_updates
    from fednet.bench.pretended import PretendedRun, names

    on_stderr(f"a run of {workers} workers and {rounds} rounds is made up")
    all_names = names(workers)
    run = PretendedRun(
        folder / "run", workers=all_names, attackers=all_names[-max(1, workers // 10) :], rounds=rounds + 100
    )
    for number in range(1, rounds + 1):
        run.commit(number)
    run.show_status(rounds + 1, 0.0)
    with _page_of(folder / "run") as (url, _):
        on_stderr(f"it is opened {repeats} times, and watched for {updates} s and {_MORE_ROUNDS} rounds")
        samples = first_paints(browser, url, repeats)
        samples["update"] = seconds_of_updates(
            browser, url, lambda index: run.show_status(rounds + 1, index / updates), updates
        )
        samples["new_round"] = seconds_of_updates(
            browser, url, lambda index: run.commit(rounds + 1 + index), _MORE_ROUNDS
        )
    run.close()
    return samples


def _processor(rounds: int) -> dict[str, float]:
    """Return the seconds that a watched page computes beside the coordinator of a run."""
    from data.phantoms import write_phantoms
    from data.splitting import SplitSettings
    from fednet.bench.processor import ProcessorWatch, processor_s
    from fednet.commands.demo import split_into
    from fednet.commands.processes import run_federation
    from fednet.reporting.status import live_status

    on_stderr(f"beside {rounds} rounds of {_HOSPITALS} workers and resnet18, nobody training")
    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as name:
        folder = Path(name)
        run = folder / "run"
        write_phantoms(folder / "phantoms", training=8 * _HOSPITALS + 8, testing=8, seed=0, size=32)
        split_into(folder / "data", folder / "phantoms", SplitSettings(clients=_HOSPITALS))
        run.mkdir()
        with _page_of(run, "--wait") as (url, page), _watched(url):
            began = processor_s(page) or 0.0
            pids = {"page": lambda: page, "coordinator": lambda: (live_status(run) or {}).get("pid")}
            with ProcessorWatch(pids) as watch:
                run_federation(
                    run,
                    data=folder / "data",
                    certs=folder / "certs",
                    workers=_HOSPITALS,
                    coordinator_options=["--rounds", str(rounds), "--model", "resnet18", *NO_TRAINING],
                    worker_options={},
                    shows_coordinator=False,
                )
    page_s, coordinator_s = watch.seconds["page"], watch.seconds["coordinator"]
    return {
        "page": page_s,
        "began": began,
        "coordinator": coordinator_s,
        "share": (page_s - began) / coordinator_s,
        "share_of_all": page_s / coordinator_s,
    }


@contextlib.contextmanager
def _page_of(run: Path, *options: str) -> Iterator[tuple[str, int]]:
    """Serve the page of a run for as long as the block lasts; yield its address and its process."""
    from fednet.commands.processes import started

    log = run.parent / "page.log"
    with started(["dashboard", "--run-dir", str(run), "--listen", "127.0.0.1:0", *options], log=log) as process:
        give_up_s = time.monotonic() + _STARTS_WITHIN_S
        while "\n" not in (text := log.read_text()):
            if process.poll() is not None or time.monotonic() > give_up_s:
                raise FednetError(f"cli.py dashboard does not start: {text.strip()}")
            time.sleep(0.05)
        yield text.split()[0], process.pid


@contextlib.contextmanager
def _watched(url: str) -> Iterator[None]:
    """Read the page's events as a browser does, for as long as the block lasts."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", "/events")
    answer = connection.getresponse()

    def read() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):  # closed below
            while answer.read1(2**16):
                pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield
    finally:
        connection.close()


def _print(document: dict[str, Any]) -> None:
    settings, processor = document["settings"], document["processor"]
    click.echo(
        f"page of {settings['workers']} workers and {settings['rounds']} rounds: first paint {document['ours']:.3f} s, "
        f"all of it drawn after {document['shown']:.3f} s; an empty page {document['reference']:.3f} s"
    )
    click.echo(f"an update {document['update']:.3f} s, with a new round {document['new_round']:.3f} s (medians)")
    if processor is not None:
        click.echo(
            f"processor time: page {processor['page']:.2f} s, of it {processor['began']:.2f} s to start; coordinator "
            f"{processor['coordinator']:.2f} s; share {processor['share']:.1%}, with the start "
            f"{processor['share_of_all']:.1%}"
        )
    print_meaning(document)
