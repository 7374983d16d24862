"""`cli.py bench`: what this machine reaches, beside a reference in the same run."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click

from fednet.commands.options import device_option, json_option
from fednet.errors import BadInput

_NO_TRAINING = ("--image-size", "32", "--local-epochs", "0", "--pretrained", "no")


@click.group("bench")
def command() -> None:
    """Measure this machine; every figure stands beside a reference from the same run."""


@command.command("round")
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="How many.")
@click.option("--rounds", type=click.IntRange(2, 1000), default=6, show_default=True, help="The first is a warm-up.")
@click.option("--model", default="resnet18", show_default=True, help="resnet18 or small-cnn.")
@json_option
def bench_round(workers: int, rounds: int, model: str, as_json: bool) -> None:
    """A round without training: send, receive, verify, aggregate, commit; real processes, mutual TLS, loopback."""
    from data.phantoms import write_phantoms
    from data.splitting import SplitSettings
    from fednet.bench.machine import machine
    from fednet.commands.demo import split_into
    from fednet.commands.processes import run_federation

    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as name:
        folder = Path(name)
        write_phantoms(folder / "phantoms", training=8 * workers + 8, testing=8, seed=0, size=32)
        split_into(folder / "data", folder / "phantoms", SplitSettings(clients=workers))
        run_federation(
            folder / "run",
            data=folder / "data",
            certs=folder / "certs",
            workers=workers,
            coordinator_options=["--rounds", str(rounds), "--model", model, *_NO_TRAINING],
            worker_options={},
            shows_coordinator=False,
        )
        history = json.loads((folder / "run" / "history.json").read_text())
        nbytes = _model_bytes(model)
        reference = _bare_tls(folder / "certs", workers, nbytes, rounds)
    measured = [each["seconds"] for each in history["rounds"]][1:]
    ours = statistics.median(each["round"] for each in measured)
    bare = statistics.median(reference[1:])
    document: dict[str, Any] = {
        "bench": "round",
        "machine": machine(),
        "settings": {"workers": workers, "rounds": rounds, "model": model, "model_bytes": nbytes},
        "samples": {"ours": [each["round"] for each in measured], "reference": reference[1:]},
        "ours": ours,
        "reference": bare,
        "ratio": ours / bare,
        "parts": {key: statistics.median(each[key] for each in measured) for key in measured[0]},
        "meaning": {
            "ours": "s, median: the coordinator's whole round, from its start to its commit, workers not training",
            "reference": "s, median: the same bytes both ways through bare asyncio TLS, neither hashed nor stored",
            "ratio": "ours / reference",
            "parts": "s, medians of the round's parts; evaluate is a test set of 8 phantoms",
        },
    }
    if as_json:
        click.echo(json.dumps(document))
        return
    click.echo(f"round of {workers} workers, {model} ({nbytes / 1e6:.1f} MB), no training: {ours:.2f} s (median)")
    click.echo("  of it " + ", ".join(f"{k} {v:.2f} s" for k, v in document["parts"].items() if k != "round"))
    click.echo(f"the same bytes through bare asyncio TLS: {bare:.2f} s; ratio {ours / bare:.2f}")
    click.echo(f"machine: {', '.join(f'{key} {value}' for key, value in document['machine'].items())}")


def _model_bytes(model: str) -> int:
    from fednet.commands import wiring

    network = wiring.new_model(model, seed=0, pretrained="no", weights=None, notice=lambda text: None)
    return wiring.manifest_for(network).total_bytes


def _bare_tls(certs: Path, workers: int, nbytes: int, repeats: int) -> list[float]:
    from fednet.bench.bare_tls import bare_client, serve_bare
    from fednet.commands.processes import free_port
    from fednet.config import WorkerName
    from fednet.security.enrolment import credentials_in

    port = free_port()
    spawn = multiprocessing.get_context("spawn")
    clients = [
        spawn.Process(
            target=bare_client,
            args=(credentials_in(certs, WorkerName(f"client{number}")), nbytes, repeats, port),
        )
        for number in range(1, workers + 1)
    ]
    for client in clients:
        client.start()
    try:
        return serve_bare(certs, workers, nbytes, repeats, port)
    finally:
        for client in clients:
            client.join(10)
            client.terminate()


@command.command("krum")
@click.option("--workers", default="10,32,100", show_default=True, help="How many updates: one run for each count.")
@click.option(
    "--dim",
    type=click.IntRange(1, 2**33),
    default=11_181_642,
    show_default=True,
    help="Numbers in an update; ResNet18.",
)
@device_option
@click.option("--from-spool", is_flag=True, help="Updates on disk ($TMPDIR), read block by block; never all in memory.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="Of each measurement.")
@json_option
def bench_krum(workers: str, dim: int, device: str, from_spool: bool, repeats: int, as_json: bool) -> None:
    """Distances and whole Multi-Krum, beside a bare matrix product and the loop over pairs (or a plain read)."""
    from fednet.bench.krum import KrumBench, bench_in_memory
    from fednet.bench.krum_spool import bench_from_spool
    from fednet.worker.device import device_from

    settings = KrumBench(workers=_counts(workers), dim=dim, device=device_from(device), repeats=repeats)
    if from_spool:
        document = bench_from_spool(settings, Path(tempfile.gettempdir()), notice=_on_stderr)
    else:
        document = bench_in_memory(settings, notice=_on_stderr)
    if as_json:
        click.echo(json.dumps(document))
        return
    _print_krum(document)


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as exc:
        raise BadInput(
            "--workers", found=text, expected="whole numbers with commas between, such as 10,32,100"
        ) from exc


def _on_stderr(text: str) -> None:
    click.echo(text, err=True)


def _print_krum(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    settings = document["settings"]
    keys = list(document["runs"][0]["seconds"])
    limited = "limit" in document["runs"][0]
    table = Table(title=f"Krum on {settings['dim']:,} numbers, {settings['device']}, updates from {settings['source']}")
    for name in (
        "n",
        "f",
        *(f"{key} s" for key in keys),
        "ratio",
        *(["limit ratio"] if limited else []),
        "peak memory",
    ):
        table.add_column(name, justify="right")
    for run in document["runs"]:
        peak = ", ".join(
            f"{run['peak_bytes'][key] / 2**20:.0f} MiB ({run['peak_share'][key]:.1%})" for key in run["peak_bytes"]
        )
        limits = [f"{run['limit_ratio']:.2f}"] if limited else []
        times = (f"{run['seconds'][key]:.3f}" for key in keys)
        table.add_row(str(run["workers"]), str(run["byzantine"]), *times, f"{run['ratio']:.2f}", *limits, peak)
    Console().print(table)
    for name in (*keys, "ratio", "peak_bytes"):
        meaning = document["meaning"].get(
            {"distances": "ours", "floor": "reference", "plain": "reference"}.get(name, name)
        )
        click.echo(f"{name}: {meaning}")
    click.echo(f"machine: {', '.join(f'{key} {value}' for key, value in document['machine'].items())}")
