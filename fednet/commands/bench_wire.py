"""`cli.py bench round`, `bench transport`: the wire beside bare TLS in the same run."""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any

import click

from fednet.commands.options import json_option
from fednet.errors import BadInput

_VOLATILE = ("-m", "fednet.bench.volatile")
NO_TRAINING = ("--image-size", "32", "--local-epochs", "0", "--pretrained", "no", "--aggregator", "multikrum")


@click.command("round")
@click.option("--workers", type=click.IntRange(1, 64), default=4, show_default=True, help="How many.")
@click.option("--rounds", type=click.IntRange(2, 1000), default=6, show_default=True, help="The first is a warm-up.")
@click.option("--model", default="resnet18", show_default=True, help="resnet18 or small-cnn.")
@json_option
def bench_round(workers: int, rounds: int, model: str, as_json: bool) -> None:
    """A round without training: send, receive, verify, aggregate, commit; real processes, mutual TLS, loopback."""
    from data.phantoms import write_phantoms
    from data.splitting import SplitSettings
    from fednet.bench.machine import machine
    from fednet.bench.round_floor import round_floor
    from fednet.commands.demo import split_into
    from fednet.commands.processes import CLI, run_federation
    from fednet.config import WorkerName
    from fednet.security.enrolment import credentials_in

    nbytes = _model_bytes(model)
    with tempfile.TemporaryDirectory(prefix="fednet-bench-") as name:
        folder = Path(name)
        write_phantoms(folder / "phantoms", training=8 * workers + 8, testing=8, seed=0, size=32)
        split_into(folder / "data", folder / "phantoms", SplitSettings(clients=workers))
        measured: dict[str, list[dict[str, float]]] = {"run": [], "volatile": []}
        for number, kind in enumerate(("run", "volatile", "volatile", "run")):  # what else goes on meets both
            run_federation(
                folder / f"run{number}",
                data=folder / "data",
                certs=folder / "certs",
                workers=workers,
                coordinator_options=["--rounds", str(rounds), "--model", model, *NO_TRAINING],
                worker_options={},
                shows_coordinator=False,
                program=CLI if kind == "run" else _VOLATILE,
            )
            history = json.loads((folder / f"run{number}" / "history.json").read_text())
            measured[kind] += [each["seconds"] for each in history["rounds"]][1:]
        identities = [
            credentials_in(folder / "certs", WorkerName(f"client{number}")) for number in range(1, workers + 1)
        ]
        floor = round_floor(folder / "certs", identities, nbytes=nbytes, repeats=rounds, folder=folder)
    seconds = {key: statistics.median(times[1:]) for key, times in floor.items()}
    ours = statistics.median(each["round"] for each in measured["run"])
    reference = seconds["bare"] + seconds["disk"]
    without = statistics.median(each["round"] for each in measured["volatile"])
    document: dict[str, Any] = {
        "bench": "round",
        "machine": machine(),
        "settings": {"workers": workers, "rounds": rounds, "model": model, "model_bytes": nbytes},
        "samples": {
            "ours": [each["round"] for each in measured["run"]],
            "volatile": [each["round"] for each in measured["volatile"]],
            **{key: times[1:] for key, times in floor.items()},
        },
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "durability": {"without": without, "cost": 1 - without / ours},
        "parts": _medians(measured["run"]),
        "parts_without": _medians(measured["volatile"]),
        "reference_parts": {**seconds, "hashing": seconds["bare"] - seconds["unhashed"]},
        "meaning": {
            "ours": "s, median: the coordinator's whole round, from its start to its commit, workers not training",
            "reference": "s: bare + disk, of the medians",
            "ratio": "ours / reference",
            "durability": "without: s, median, the same rounds with every fsync left out; cost: its share of ours",
            "parts": "s, medians of the round's parts; evaluate is a test set of 8 phantoms",
            "bare": "s: the same bytes both ways through bare asyncio TLS streams, hashed by the receiver",
            "unhashed": "s: as bare, without the hash; hashing is the difference",
            "disk": "s: the updates' bytes written to one file a worker and synced",
        },
    }
    if as_json:
        click.echo(json.dumps(document))
        return
    parts, floors = document["parts"], document["reference_parts"]
    click.echo(f"round of {workers} workers, {model} ({nbytes / 1e6:.1f} MB), no training: {ours:.2f} s (median)")
    click.echo("  of it " + ", ".join(f"{key} {value:.2f} s" for key, value in parts.items() if key != "round"))
    click.echo(f"reference: {reference:.2f} s; ratio {ours / reference:.2f}")
    click.echo("  of it " + ", ".join(f"{key} {floors[key]:.2f} s" for key in ("unhashed", "hashing", "disk")))
    cost = document["durability"]["cost"]
    click.echo(f"without waiting for the disk: {without:.2f} s; durability is {cost:.0%} of the round")
    where = ", ".join(f"{key} {value:.2f} s" for key, value in document["parts_without"].items() if key != "round")
    click.echo(f"  of it {where}")
    print_meaning(document)


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}


@click.command("transport")
@click.option("--workers", default="1,8", show_default=True, help="How many at once: one run for each count.")
@click.option("--model", default="resnet18", show_default=True, help="resnet18 or small-cnn: how many bytes.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=7, show_default=True, help="After a warm-up.")
@json_option
def bench_transport(workers: str, model: str, repeats: int, as_json: bool) -> None:
    """Goodput over mutual TLS on loopback, beside bare TLS streams that hash the same bytes without any framing."""
    from fednet.bench import transport

    settings = transport.TransportBench(
        workers=counts(workers, option="--workers"), nbytes=_model_bytes(model), repeats=repeats
    )
    document = transport.bench_transport(settings, notice=on_stderr)
    if as_json:
        click.echo(json.dumps(document))
        return
    for run in document["runs"]:
        click.echo(f"{run['workers']} workers, {settings.nbytes / 1e6:.1f} MB to each and back, GB/s (medians):")
        for way in ("down", "up"):
            rates = ", ".join(f"{name} {rate[way] / 1e9:.3f}" for name, rate in run["goodput"].items())
            click.echo(f"  {way}: {rates}; ratio {run['ratio'][way]:.2f}")
        peaks = ", ".join(f"{name} {peak / 2**20:.0f} MiB" for name, peak in run["peak_bytes"].items())
        click.echo(f"  peak memory: {peaks}")
    print_meaning(document)


@click.command("swarm")
@click.option(
    "--workers", type=click.IntRange(2, 5000), default=1000, show_default=True, help="The most; 10, 100 ... come first."
)
@click.option("--model-bytes", default="5MB", show_default=True, help="Size of the model: 5MB, 500kB, or bytes.")
@click.option("--rounds", type=click.IntRange(2, 100), default=5, show_default=True, help="Of each run.")
@json_option
def bench_swarm(workers: int, model_bytes: str, rounds: int, as_json: bool) -> None:
    """Many workers over mutual TLS on loopback take the model and deliver updates: seconds and memory of each round."""
    from fednet.bench import swarm

    steps = tuple(count for count in (10, 100, 1000) if count < workers)
    settings = swarm.SwarmBench(
        workers=(*steps, workers), model_bytes=_bytes_in(model_bytes, option="--model-bytes"), rounds=rounds
    )
    document = swarm.bench_swarm(settings, notice=on_stderr)
    if as_json:
        click.echo(json.dumps(document))
        return
    for run in document["runs"]:
        click.echo(f"{run['workers']} workers, connected in {run['connect']:.1f} s; each round:")
        for part in ("transfer", "aggregate"):
            click.echo(f"  {part}: {', '.join(f'{value:.2f}' for value in run[part])} s")
        peaks = ", ".join(f"{peak / 2**20:.0f}" for peak in run["peak_bytes"])
        click.echo(f"  peak memory: {peaks} MiB; round {rounds} beyond round 2: {run['growth_bytes'] / 2**20:+.0f} MiB")
    print_meaning(document)


COMMANDS = (bench_round, bench_transport, bench_swarm)


def counts(text: str, *, option: str) -> tuple[int, ...]:
    """Return the whole numbers from 1 in `text`, with commas between; raises `BadInput`."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise BadInput(option, found=text, expected="whole numbers from 1 with commas between, such as 10,32,100")
    return found


def _bytes_in(text: str, *, option: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(k|M|G)?B?", text)
    nbytes = round(float(found[1]) * {None: 1, "k": 10**3, "M": 10**6, "G": 10**9}[found[2]]) if found else 0
    if not 4 <= nbytes <= 10**10:
        raise BadInput(option, found=text, expected="4 bytes to 10GB, such as 5MB or 500kB")
    return nbytes


def on_stderr(text: str) -> None:
    """Say what goes on where it is not in the way of a document."""
    click.echo(text, err=True)


def print_machine(document: dict[str, Any]) -> None:
    """Say which machine the figures come from."""
    click.echo(f"machine: {', '.join(f'{key} {value}' for key, value in document['machine'].items())}")


def print_meaning(document: dict[str, Any]) -> None:
    """Say what each figure is, and which machine they come from."""
    for name, meaning in document["meaning"].items():
        click.echo(f"{name}: {meaning}")
    print_machine(document)


def _model_bytes(model: str) -> int:
    from fednet.commands import wiring

    network = wiring.new_model(model, seed=0, pretrained="no", weights=None, notice=lambda text: None)
    return wiring.manifest_for(network).total_bytes
