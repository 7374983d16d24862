"""`cli.py bench`: what this machine reaches, beside a reference in the same run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click

from fednet.commands import bench_wire
from fednet.commands.bench_chaos import bench_chaos
from fednet.commands.bench_dashboard import bench_dashboard
from fednet.commands.bench_inversion import bench_inversion
from fednet.commands.bench_learning import bench_learning
from fednet.commands.bench_recovery import bench_recovery
from fednet.commands.bench_train import bench_train
from fednet.commands.options import device_option, json_option


@click.group("bench")
def command() -> None:
    """Measure this machine; every figure stands beside a reference from the same run."""


for each in (
    *bench_wire.COMMANDS,
    bench_chaos,
    bench_dashboard,
    bench_inversion,
    bench_learning,
    bench_recovery,
    bench_train,
):
    command.add_command(each)


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

    settings = KrumBench(
        workers=bench_wire.counts(workers, option="--workers"), dim=dim, device=device_from(device), repeats=repeats
    )
    if from_spool:
        document = bench_from_spool(settings, Path(tempfile.gettempdir()), notice=bench_wire.on_stderr)
    else:
        document = bench_in_memory(settings, notice=bench_wire.on_stderr)
    if as_json:
        click.echo(json.dumps(document))
        return
    _print_krum(document)


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
    bench_wire.print_machine(document)
