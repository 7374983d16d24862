"""`cli.py runs list|show|export|verify|card|report`: what ran, how it ended, what each round did; no run is changed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands import card, report, verify
from fednet.commands.options import json_option, run_argument, run_folder
from fednet.errors import BadInput, FednetError

if TYPE_CHECKING:
    from fednet.storage.history import RunHistory

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one
_METRICS = ("accuracy", "macro_f1", "loss")
_UPDATE_FIELDS = (
    "worker",
    "selected",
    "reason",
    "weight",
    "score",
    "norm",
    "cosine",
    "kept",
    "quarantined",
    "samples",
    "train_s",
    "loss",
    "epsilon",
    "delta",
    "sha256",
)


@click.group("runs")
def command() -> None:
    """Look at runs: list, show, export, verify, card, report."""


command.add_command(verify.command)
command.add_command(card.command)
command.add_command(report.command)


@command.command("list")
@click.option(
    "--runs",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of run folders.",
)
@json_option
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in a folder: when begun, how far, how they ended, how good."""
    from fednet.storage.history import read_history, runs_under

    summaries = []
    for path in runs_under(folder):
        try:
            summaries.append(_summary(read_history(path)))
        except FednetError as exc:  # one damaged run must not hide the others
            click.echo(f"{path}: {exc}", err=True)
    if as_json:
        click.echo(json.dumps(summaries))
        return
    if not summaries:
        click.echo(f"no run in {folder} (--runs names another folder)")
        return
    _print_table(
        ("run", "begun, UTC", "stands", "rounds", "model", "rule", "accuracy"),
        [
            (
                each["name"],
                each["begun"][:16].replace("T", " "),
                each["standing"],
                f"{each['rounds_done']} of {each['rounds']}",
                each["model"],
                each["aggregator"],
                f"{each['test']['accuracy']:.3f}" if each["test"] else "-",
            )
            for each in summaries
        ],
    )


@command.command("show")
@run_argument
@click.option("--round", "number", type=click.IntRange(1), help="One round: every worker's score, verdict and reason.")
@json_option
def show(run: Path, number: int | None, as_json: bool) -> None:
    """Show the run RUN (its folder, or its name in runs/): its settings and rounds, or one round."""
    found = _history(run)
    if number is not None:
        document = found.round(number)
        click.echo(json.dumps(document)) if as_json else _print_round(found, document)
        return
    if as_json:
        click.echo(json.dumps(_summary(found) | {"settings": found.settings.to_dict(), "history": list(found.rounds)}))
        return
    _print_run(found)


@command.command("export")
@run_argument
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for rounds.csv and updates.csv (the run's)."
)
def export(run: Path, out: Path | None) -> None:
    """Write a run's rounds and updates as CSV."""
    from fednet.storage.atomic import write_text

    found = _history(run)
    folder = out or found.folder
    for name, rows in (("rounds.csv", _round_rows(found)), ("updates.csv", _update_rows(found))):
        write_text(folder / name, _csv(rows))
        click.echo(f"{folder / name}: {len(rows)} rows")


def _history(run: Path) -> RunHistory:
    from fednet.storage.history import read_history

    return read_history(run_folder(run))


def _summary(found: RunHistory) -> dict[str, Any]:
    last = found.rounds[-1] if found.rounds else {}
    return {
        "name": found.folder.name,
        "folder": str(found.folder),
        "run": found.run,
        "begun": found.begun.isoformat(timespec="seconds"),
        "software": found.software,
        "standing": found.standing.value,
        "ending": found.ending,
        "rounds_done": len(found.rounds),
        "rounds": found.settings.rounds,
        "workers": found.settings.workers,
        "byzantine": found.settings.byzantine,
        "model": found.settings.model,
        "aggregator": found.settings.recipe_name,
        "test": {name: last["test"][name] for name in _METRICS} if last.get("test") else None,
    }


def _print_run(found: RunHistory) -> None:
    from fednet.reporting.round_text import declines, privacy_line, rejections
    from fednet.storage.history import Standing

    settings = found.settings
    click.echo(f"{found.folder}: run {found.run}, begun {found.begun:%Y-%m-%d %H:%M} UTC by {found.software}")
    click.echo(
        f"{settings.model} at {settings.image_size} px, {settings.workers} workers, {settings.recipe_name} "
        f"(f = {settings.byzantine}), seed {settings.seed}; {found.standing.value} after "
        f"{len(found.rounds)} of {settings.rounds} rounds"
        + (f" ({found.ending})" if found.standing is Standing.STOPPED or _ended_early(found) else "")
    )
    _print_table(
        ("round", "accuracy", "macro F1", "loss", "counted", "seconds"),
        [
            (
                str(row["round"]),
                *("-" if row[f"test_{name}"] is None else f"{row[f'test_{name}']:.3f}" for name in _METRICS),
                f"{row['selected']} of {row['updates']}",
                f"{row['round_s']:.1f}",
            )
            for row in _round_rows(found)
        ],
    )
    for document in found.rounds:
        for line in (*rejections(document), *declines(document)):
            click.echo(f"round {document['round']}: {line}")
    if found.rounds and (spent := privacy_line(found.rounds[-1])) is not None:
        click.echo(spent)
    _print_sites(found)


def _ended_early(found: RunHistory) -> bool:
    from fednet.storage.history import Standing

    return found.standing is Standing.FINISHED and len(found.rounds) < found.settings.rounds


def _print_sites(found: RunHistory) -> None:
    """Show what sites told last of a model, on scans of their own."""
    told = [document for document in found.rounds if document.get("site_evaluation")]
    if not told:
        return
    click.echo(f"sites, on scans that they hold out, of round {told[-1]['round'] - 1}'s model (they say so):")
    _print_table(
        ("site", "scans", "accuracy", "macro F1", "lowest recall"),
        [
            (
                worker,
                str(each["images"]),
                f"{each['accuracy']:.3f}",
                f"{each['macro_f1']:.3f}",
                _lowest_recall(each["confusion"], found.settings.classes),
            )
            for worker, each in told[-1]["site_evaluation"].items()
        ],
    )


def _lowest_recall(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    from fednet.reporting.confusion import recalls

    known = [(recall, name) for recall, name in zip(recalls(confusion), classes, strict=True) if recall is not None]
    recall, name = min(known)
    return f"{recall:.3f} ({name})"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


def _print_round(found: RunHistory, document: dict[str, Any]) -> None:
    from fednet.reporting.round_text import privacy_line, sites_line

    aggregation = document.get("aggregation", {})
    click.echo(f"round {document['round']} of {found.folder.name}, {found.settings.recipe_name}, f = {_f(document)}")
    if aggregation.get("note"):
        click.echo(f"  {aggregation['note']}")
    for entry in document["updates"]:
        verdict = f"counted with weight {entry['weight']:.2f}" if entry["selected"] else "did not count"
        click.echo(f"  {entry['worker']}: {verdict}: {entry['reason']}")
        facts = [f"{name} {entry[name]:.4g}" for name in ("score", "norm") if entry[name] is not None]
        if entry.get("cosine") is not None:
            facts.append(f"cosine to the mean of those that count {entry['cosine']:.2f}")
        if (entry.get("kept") or 1) < 1:
            facts.append(f"clipped to {entry['kept']:.0%} of its norm")
        facts += [f"{entry['samples']} scans", f"trained {entry['train_s']:.1f} s", _learned(entry)]
        click.echo(f"    {', '.join(facts)}")
    for part in ("validation", "test"):
        metrics = document.get(part) or {}
        if metrics:
            click.echo(f"  {part}: " + ", ".join(f"{name} {metrics[name]:.3f}" for name in _METRICS))
    if (told := sites_line(document)) is not None:
        click.echo(f"  {told}")
    if (spent := privacy_line(document)) is not None:
        click.echo(f"  {spent}")


def _learned(entry: dict[str, Any]) -> str:
    """Return the loss that a site told, or what it says that its training spent of privacy."""
    if entry.get("epsilon"):
        return f"differential privacy of single scans: epsilon {entry['epsilon']:.3g}, delta {entry['delta']:g} so far"
    return f"loss {entry['loss']:.3f}"


def _f(document: dict[str, Any]) -> int:
    return int(document["byzantine"])


def _round_rows(found: RunHistory) -> list[dict[str, Any]]:
    return [
        {
            "round": document["round"],
            "updates": len(document["updates"]),
            "selected": sum(entry["selected"] for entry in document["updates"]),
            "byzantine": _f(document),
            **{
                f"{part}_{name}": (document.get(part) or {}).get(name)
                for part in ("validation", "test")
                for name in _METRICS
            },
            **{f"{name}_s": value for name, value in document["seconds"].items()},
            "model_sha256": document["model_sha256"],
        }
        for document in found.rounds
    ]


def _update_rows(found: RunHistory) -> list[dict[str, Any]]:
    return [
        {"round": document["round"], **{name: entry.get(name) for name in _UPDATE_FIELDS}}
        for document in found.rounds
        for entry in document["updates"]
    ]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        raise BadInput("export", found="no committed round yet", todo="wait for the first round")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_safe(row) for row in rows)
    return text.getvalue()


def _safe(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with no text that a spreadsheet would run: reasons may hold what a peer said."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
        for name, value in row.items()
    }
