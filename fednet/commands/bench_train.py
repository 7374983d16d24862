"""`cli.py bench train`: images per second of a worker's local training, and where the rest goes."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.bench_wire import on_stderr, print_machine
from fednet.commands.computing import precision_option
from fednet.commands.options import device_option, json_option

if TYPE_CHECKING:
    from fednet.commands.training_speed import TrainBench

_FILES = 64  # scans that starts are timed with
_MEANING = {
    "ours": "images/s, median: a worker's training, from the order of its batches to its last loss, augmented",
    "reference": "images/s, median: forward, backward and step over float32 batches that lie normalised on the device",
    "ratio": "median over the repeats; in each, ours and the reference are timed in turn, twice. The goal is 0.95",
    "processor_ratio": "the same of processor time, which other work on the machine hardly changes; on a CPU",
    "parts": "s of an epoch, each by itself, medians; step: as a worker computes it, over the reference's batches; "
    "assembling: gathering and normalising; epoch: all, as in ours; bare: the reference's epoch",
    "start": "images/s of reading so many PNG files of 512 pixels, which the system has in memory: decoded, decoded "
    "and kept, and cached: as a worker that starts again has them",
    "gpu": "peak_bytes beyond what lay there before; utilisation: share of time it computed, as nvidia-smi tells",
}


@click.command("train")
@click.option("--model", default="resnet18", show_default=True, help="resnet18, resnet18-gn or small-cnn.")
@click.option("--image-size", type=click.IntRange(16), default=96, show_default=True, help="Pixels, square.")
@click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True, help="Images a step.")
@click.option("--images", type=click.IntRange(2), help="In an epoch (default: 128 on a CPU, 4096 elsewhere).")
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True, help="Of each training.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=7, show_default=True, help="Two trainings of each.")
@device_option
@precision_option
@json_option
def bench_train(
    model: str,
    image_size: int,
    batch_size: int,
    images: int | None,
    epochs: int,
    repeats: int,
    device: str,
    mixes: bool | None,
    as_json: bool,
) -> None:
    """A worker's local training beside a bare PyTorch loop: the same model, weights, optimiser and precision."""
    from fednet.commands.training_speed import TrainBench
    from fednet.worker.device import device_from, prepare

    where = device_from(device)
    prepare(where)
    bench = TrainBench(
        model=model,
        image_size=image_size,
        batch_size=batch_size,
        images=images or (128 if where.type == "cpu" else 4096),
        epochs=epochs,
        repeats=repeats,
        device=where,
        mixes=mixes,
    )
    document = _document(bench)
    if as_json:
        click.echo(json.dumps(document))
        return
    _print(document)


def _document(bench: TrainBench) -> dict[str, Any]:
    import torch

    from fednet.bench.machine import machine
    from fednet.commands.training_speed import TrainingSpeed, starts

    speed = TrainingSpeed(bench)
    on_stderr(f"{2 * bench.repeats + 1} trainings as a worker, and as many by the bare loop")
    found, processor = speed.compare()
    on_stderr("the parts by themselves")
    computed = bench.images * bench.epochs
    epoch, bare = (statistics.median(each) / bench.epochs for each in (found.ours, found.reference))
    return {
        "bench": "train",
        "machine": machine() | {"torch": torch.__version__},
        "settings": {
            **{name: value for name, value in vars(bench).items() if name not in ("device", "mixes")},
            "device": str(bench.device),
            "precision": speed.precision,
            "threads": torch.get_num_threads(),
        },
        "samples": {name: [computed / each for each in samples] for name, samples in vars(found).items()},
        "ours": bench.images / epoch,
        "reference": bench.images / bare,
        "ratio": statistics.median(found.ratios()),
        "ratios": found.ratios(),
        "processor_ratio": statistics.median(processor.ratios()) if bench.device.type == "cpu" else None,
        "parts": speed.parts() | {"epoch": epoch, "bare": bare},
        "start": starts(min(bench.images, _FILES), bench.image_size),
        "gpu": speed.on_gpu() if bench.device.type == "cuda" else None,
        "meaning": _MEANING,
    }


def _print(document: dict[str, Any]) -> None:
    settings, parts, start, ratios = (document[name] for name in ("settings", "parts", "start", "ratios"))
    click.echo(
        f"{settings['model']} at {settings['image_size']} pixels, batches of {settings['batch_size']}, "
        f"{settings['precision']} on {settings['device']} ({settings['threads']} CPU threads), images/s: a worker "
        f"{document['ours']:.1f}, a bare loop {document['reference']:.1f}; ratio {document['ratio']:.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )
    if document["processor_ratio"] is not None:
        click.echo(f"ratio of processor time, whatever else runs here: {document['processor_ratio']:.3f}")
    click.echo(
        f"an epoch of {settings['images']} images: {parts['epoch']:.3f} s, of the bare loop {parts['bare']:.3f} s"
    )
    each = (f"{name} {value:.4f} s" for name, value in parts.items() if name not in ("epoch", "bare"))
    click.echo(f"  measured by themselves: {', '.join(each)}")
    click.echo(
        f"before it, images/s: decoded {start['decoded']:.0f}, decoded and kept {start['kept']:.0f}, cached "
        f"{start['cached']:.0f}"
    )
    for name, found in (document["gpu"] or {}).items():
        busy = "unknown" if found["utilisation"] is None else f"{found['utilisation']:.0%}"
        click.echo(f"{name}: peak {found['peak_bytes'] / 2**20:.0f} MiB of the GPU's memory; utilisation {busy}")
    for name, meaning in document["meaning"].items():
        click.echo(f"{name}: {meaning}")
    print_machine(document)
