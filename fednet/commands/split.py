"""`cli.py split`: hospitals' data folders and the server's unseen test set, out of one data set."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from data.splitting import SplitPlan, SplitSettings


@click.command("split")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="Folder for the split (default: here).")
@click.option("--clients", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many hospitals.")
@click.option(
    "--scheme",
    type=click.Choice(["iid", "dirichlet", "quantity"]),
    default="iid",
    show_default=True,
    help="All alike, different class mixes, or different sizes.",
)
@click.option(
    "--alpha",
    type=click.FloatRange(1e-3, 1e6),
    default=0.5,
    show_default=True,
    help="dirichlet, quantity: small = unlike sites.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same split.")
@click.option(
    "--validation",
    type=click.FloatRange(0.0, 0.9),
    default=0.1,
    show_default=True,
    help="Share of the training images that the server keeps to choose by.",
)
@click.option(
    "--root",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="How many training images the server keeps as its root of trust.",
)
@click.option(
    "--test-from",
    type=click.Choice(["published", "resplit"]),
    default="published",
    show_default=True,
    help="The data set's Testing folder, or a fifth of all images, drawn by duplicate groups.",
)
@click.option(
    "--copy/--link",
    "copy",
    default=True,
    help="Copy the files (default), or make hard links where the file system can.",
)
@click.option("--phantoms", is_flag=True, help="Make synthetic scans instead of reading a data set.")
@click.option("--phantom-images", type=click.IntRange(8), default=1200, show_default=True, help="How many, in all.")
@click.option("--phantom-size", type=click.IntRange(16, 1024), default=64, show_default=True, help="Pixels, square.")
@click.option(
    "--max-bad-files",
    type=click.FloatRange(0.0, 1.0),
    default=0.01,
    show_default=True,
    help="Largest share of unreadable files that is skipped.",
)
@click.option("--force", is_flag=True, help="Replace a split that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print split.json's document instead of tables.")
def command(
    dataset: Path | None,
    out: Path,
    clients: int,
    scheme: str,
    alpha: float,
    seed: int,
    validation: float,
    root: int,
    test_from: str,
    copy: bool,
    phantoms: bool,
    phantom_images: int,
    phantom_size: int,
    max_bad_files: float,
    force: bool,
    as_json: bool,
) -> None:
    """Split DATASET into client1_data ... clientN_data and server_data/{validation,test}.

    DATASET is the Kaggle folder, its zip, or a folder with one folder per class. No image, nor a twin of it, is on two
    sides: duplicates are found by SHA-256 and by thumbnails.
    """
    from data.discovery import find_dataset
    from data.splitting import SplitSettings

    settings = SplitSettings(
        clients=clients,
        scheme=scheme,
        alpha=alpha,
        seed=seed,
        validation=validation,
        root=root,
        test_from=test_from,
        max_bad_files=max_bad_files,
    )
    if phantoms and dataset is not None:
        raise click.UsageError("give a DATASET or --phantoms, not both")
    if not phantoms:
        source = find_dataset(dataset)
        if dataset is None:
            click.echo(f"Reading {source}, found in the current folder.", err=True)
        settings = replace(settings, dataset=source.resolve().name)
        _split(source, out, settings, link=not copy, force=force, as_json=as_json)
        return
    from data.phantoms import phantoms_named, write_phantoms
    from fednet.reporting.reading import progress_shown

    settings = replace(settings, dataset=phantoms_named(phantom_images, phantom_size))
    with tempfile.TemporaryDirectory(prefix="fednet-phantoms-") as folder:
        testing = phantom_images // 5
        with progress_shown("making phantoms", "scans", notice=_say) as told:
            write_phantoms(
                Path(folder),
                training=phantom_images - testing,
                testing=testing,
                seed=seed,
                size=phantom_size,
                progress=told,
            )
        _split(Path(folder), out, settings, link=not copy, force=force, as_json=as_json)


def _split(source: Path, out: Path, settings: SplitSettings, *, link: bool, force: bool, as_json: bool) -> None:
    from data.classes import CLASSES
    from data.discovery import opened_dataset
    from data.splitting import document, inspect, plan, write
    from fednet.reporting.pictures import draw_class_mix
    from fednet.reporting.reading import progress_shown

    with opened_dataset(source) as files:
        with progress_shown(f"reading {settings.dataset}", "scans", notice=_say) as told:
            readable, unreadable = inspect(files, max_bad_fraction=settings.max_bad_files, progress=told)
        split = plan(readable, unreadable, settings)
        counts = split.counts()
        with progress_shown(f"writing to {out}", "scans", notice=_say) as told:
            write(
                split,
                out,
                link=link,
                force=force,
                draw=lambda path: draw_class_mix(path, counts, CLASSES),
                progress=told,
            )
    for each in unreadable:
        click.echo(f"skipped {each.scan.name}: cannot be read ({each.reason})", err=True)
    for name in split.unlearnable():
        click.echo(f"Warning: no client has an image of {name}: the model will never learn it.", err=True)
    for name in split.untested():
        click.echo(f"Warning: the test set has no image of {name}: its figures say nothing about it.", err=True)
    if as_json:
        click.echo(json.dumps(document(split)))
        return
    _print_table(counts, title=f"{len(readable)} images read, {len(unreadable)} skipped")
    _print_left_out(split)
    click.echo(f"Written: {out / 'split.json'}, {out / 'split.png'}.")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print_left_out(split: SplitPlan) -> None:
    click.echo(f"Duplicates: {split.groups.exact_pairs} exact pairs, {split.groups.near_pairs} near pairs.")
    for reason, count in sorted(split.reasons().items()):
        click.echo(f"Left out: {count} ({reason}).")
    if contradictions := split.contradictions():
        keeps = "; the published test set keeps its own" if split.settings.test_from == "published" else ""
        click.echo(f"Groups of twins with different classes: {contradictions} (left out{keeps}).")


def _print_table(counts: dict[str, list[int]], *, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from data.classes import CLASSES

    table = Table(title=title)
    table.add_column("site")
    for name in [*CLASSES, "all"]:
        table.add_column(name, justify="right")
    for side, row in counts.items():
        table.add_row(side, *map(str, row), str(sum(row)))
    Console().print(table)
