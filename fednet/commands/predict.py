"""`cli.py predict`: what a saved model says of scans as hospitals store them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from fednet.commands.options import device_option, json_option
from fednet.errors import BadInput

if TYPE_CHECKING:
    from fednet.commands.examining import Examined, Unreadable
    from models.checkpoint import Checkpoint
    from models.prediction import Rules

_NOTE = "For research: this is not a medical device."
_UNCALIBRATED = "Uncalibrated: {} brings no calibration, so its probabilities are as the network gives them."


@click.command("predict")
@click.argument("scans", nargs=-1, required=True, metavar="SCAN...", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), required=True, help="A .pth of FedNet.")
@click.option("--slices", default="all", show_default=True, help="Of a volume: all, middle, or numbers as 60,77,90.")
@click.option("--threshold", type=float, help="No answer below this confidence (default: the model's own, or none).")
@click.option("--explain", type=click.Path(path_type=Path), help="Folder for Grad-CAM pictures, one a scan.")
@device_option
@click.option("--csv", "as_csv", is_flag=True, help="A table for spreadsheets on stdout.")
@json_option
def command(
    scans: tuple[Path, ...],
    model: Path,
    slices: str,
    threshold: float | None,
    explain: Path | None,
    device: str,
    as_csv: bool,
    as_json: bool,
) -> int:
    """Say for each SCAN (a file, or a folder of them) which class it shows: JPEG, PNG, DICOM, NIfTI."""
    if as_csv and as_json:
        raise BadInput("--csv and --json", expected="one of them")
    if explain is not None and explain.exists() and not explain.is_dir():
        raise BadInput(f"--explain {explain}", found="a file", expected="a folder")
    from data.slices import choice_from
    from fednet.commands import wiring
    from fednet.commands.examining import Examiner, Unreadable, scan_files
    from fednet.worker.device import device_from
    from models.prediction import Predictor, is_calibrated, rules_of

    choice, where = choice_from(slices), device_from(device)
    saved = wiring.load_checkpoint(model)
    rules = rules_of(saved.facts.extra, threshold=threshold)
    examiner = Examiner(saved, Predictor(saved, rules, device=where), choice=choice, explain=explain)
    report: _Report = _Json(model, saved, rules) if as_json else _Csv(saved) if as_csv else _Text(saved, rules)
    if not is_calibrated(saved.facts.extra):
        click.echo(_UNCALIBRATED.format(model), err=True)
    read = unread = 0
    for each in scan_files(scans):
        found = each if isinstance(each, Unreadable) else examiner.examine(each)
        if isinstance(found, Unreadable):
            unread += 1
            click.echo(f"Cannot read {found.path}: {found.reason}", err=True)
            report.unreadable(found)
        else:
            read += 1
            report.examined(found)
    report.close()
    return 0 if not unread else 1 if read else 2


class _Report(Protocol):
    """Where what is found goes."""

    def examined(self, found: Examined) -> None:
        """Show one scan."""

    def unreadable(self, found: Unreadable) -> None:
        """Show a scan that could not be read, beside its line on stderr."""

    def close(self) -> None:
        """Show what is said at the end."""


class _Text:
    """Lines for people."""

    def __init__(self, saved: Checkpoint, rules: Rules) -> None:
        self._classes, self._threshold = saved.facts.classes, rules.threshold

    def examined(self, found: Examined) -> None:
        """Print the answer and, indented, what belongs to it."""
        from models.prediction import vote_in_words

        answer = found.answer
        said = f"{self._classes[answer.label]} {answer.confidence:.3f}"
        if answer.has_abstained:
            said = f"no answer: {said} is below {self._threshold:g}"
        chances = ", ".join(f"{n} {p:.3f}" for n, p in zip(self._classes, answer.probabilities, strict=True))
        click.echo(f"{found.path}: {said} ({chances})")
        if found.slices > 1:
            click.echo(f"  votes of {found.slices} slices: {vote_in_words(answer.votes, self._classes)}")
        if found.doubts:
            click.echo(f"  Warning: hardly an MRI slice of a head: {'; '.join(found.doubts)}")
        if found.explanation is not None:
            slice_named = f" (slice {found.explained_slice})" if found.slices > 1 else ""
            click.echo(f"  explained in {found.explanation}{slice_named}")

    def unreadable(self, found: Unreadable) -> None:
        """Nothing more than its line."""

    def close(self) -> None:
        """Say what this is not."""
        click.echo(_NOTE, err=True)


class _Csv:
    """A header and a line a scan."""

    def __init__(self, saved: Checkpoint) -> None:
        self._classes = saved.facts.classes
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        self._writer.writerow(
            ["file", "class", "confidence", "abstained", *self._classes, "slices", "warnings", "explanation"]
        )

    def examined(self, found: Examined) -> None:
        """Write a line; the class is empty where the model abstains."""
        answer = found.answer
        self._writer.writerow(
            [
                found.path,
                "" if answer.has_abstained else self._classes[answer.label],
                f"{answer.confidence:.6f}",
                int(answer.has_abstained),
                *(f"{each:.6f}" for each in answer.probabilities),
                found.slices,
                "; ".join(found.doubts),
                found.explanation or "",
            ]
        )

    def unreadable(self, found: Unreadable) -> None:
        """Nothing: the table holds answers only."""

    def close(self) -> None:
        """Nothing is held."""


class _Json:
    """One document at the end."""

    def __init__(self, path: Path, saved: Checkpoint, rules: Rules) -> None:
        from models.prediction import is_calibrated

        self._classes = saved.facts.classes
        self._document: dict[str, Any] = {
            "model": str(path),
            "architecture": saved.facts.model,
            "run": saved.facts.run,
            "round": saved.facts.round,
            "classes": list(self._classes),
            "calibrated": is_calibrated(saved.facts.extra),
            "temperature": rules.temperature,
            "threshold": rules.threshold,
            "note": _NOTE,
        }
        self._scans: list[dict[str, Any]] = []
        self._unreadable: list[dict[str, str]] = []

    def examined(self, found: Examined) -> None:
        """Keep it for the document."""
        answer = found.answer
        self._scans.append(
            {
                "file": str(found.path),
                "class": None if answer.has_abstained else self._classes[answer.label],
                "confidence": answer.confidence,
                "abstained": answer.has_abstained,
                "probabilities": self._by_class(answer.probabilities),
                "energy": answer.energy,
                "slices": found.slices,
                "votes": self._by_class(answer.votes),
                "warnings": list(found.doubts),
                "explanation": None if found.explanation is None else str(found.explanation),
                "explained_slice": found.explained_slice,
            }
        )

    def unreadable(self, found: Unreadable) -> None:
        """Keep it for the document."""
        self._unreadable.append({"file": str(found.path), "reason": found.reason})

    def close(self) -> None:
        """Print the document."""
        click.echo(json.dumps(self._document | {"scans": self._scans, "unreadable": self._unreadable}))

    def _by_class(self, values: Sequence[float]) -> dict[str, float]:
        return dict(zip(self._classes, values, strict=True))
