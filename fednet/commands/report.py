"""`cli.py runs report`: a run as one HTML page that can be mailed, and as PDF; nothing else is changed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fednet.commands.options import certs_option, run_argument, run_folder
from fednet.commands.parent import when_parent_ends
from fednet.errors import BadInput, StorageError

if TYPE_CHECKING:
    from fednet.reporting.report import Checked, RunFound

REPORT = "report.html"
NO_CHECK = "this page was made without: `runs verify` checks it"


@click.command("report")
@run_argument
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The page's file (default: the run's report.html)."
)
@click.option("--pdf", is_flag=True, help="Also as PDF beside it, by a Chromium, Chrome or Edge of this machine.")
@certs_option
@click.option("--no-check", is_flag=True, help="Do not check the signed record, which takes longest; the page says so.")
@click.option("--with-parent", is_flag=True, help="For programs that start it: end when standard input is closed.")
def command(run: Path, out: Path | None, pdf: bool, certs: Path, no_check: bool, with_parent: bool) -> None:
    """Write the run RUN (its folder, or its name in runs/) as one HTML page that needs no network."""
    from fednet.reporting.printing import require_browser

    if with_parent:
        when_parent_ends(lambda: os._exit(1))  # no lock is held that Python's own end would wait for
    if pdf:
        require_browser()
    folder = run_folder(run)
    for path in write_report(folder, certs=certs, out=out, with_pdf=pdf, unchecked=NO_CHECK if no_check else ""):
        click.echo(f"{path}: {path.stat().st_size:,} bytes")


def write_report(
    folder: Path, *, certs: Path, out: Path | None = None, with_pdf: bool = False, unchecked: str = ""
) -> list[Path]:
    """Write the report of the run in `folder`, and return its files; `unchecked`: why its record is not checked.

    Raises `BadInput` where no run was begun, `StorageError`; with a PDF what `fednet.reporting.printing` raises.
    """
    from fednet.reporting.printing import pdf_beside, print_pdf
    from fednet.reporting.report import Checked, run_report
    from fednet.storage.atomic import write_text
    from fednet.storage.history import readable

    page = out or folder / REPORT
    files = [page, pdf_beside(page)] if with_pdf else [page]
    found = _found(folder, Checked(why_not=unchecked) if unchecked else _checked(folder, certs))
    with readable(f"run {folder}"):
        text = run_report(found)
    write_text(page, text)
    if with_pdf:
        print_pdf(run_report(found, is_open=True), files[1])
    return files


def _found(folder: Path, checked: Checked) -> RunFound:
    """Return what the report is made of; the check, which takes longest, was before: this is of one moment."""
    from fednet.audit.findings import mapping_in
    from fednet.coordinator.expected_files import BEST, FINAL
    from fednet.reporting.model_card import card_files
    from fednet.reporting.report import RunFound
    from fednet.reporting.run_view import MOST_EVENTS
    from fednet.reporting.status import live_status
    from fednet.storage.history import read_audit_head, read_events, read_history

    cards = []
    for model in (FINAL, BEST):
        in_json, in_markdown = (folder / name for name in card_files(model))
        if in_json.is_file() and in_markdown.is_file() and (card := mapping_in(in_json.read_bytes())) is not None:
            cards.append((card, in_markdown.read_text(encoding="utf-8", errors="replace")))
    return RunFound(
        history=read_history(folder),
        live=live_status(folder),
        events=read_events(folder, most=MOST_EVENTS),
        audit=read_audit_head(folder),
        checked=checked,
        cards=cards,
        made=datetime.now(UTC),
    )


def _checked(folder: Path, certs: Path) -> Checked:
    """Return what the check of the run's record comes to, or why there is none."""
    from fednet.commands.verify import outcome_of
    from fednet.reporting.report import Checked

    try:
        findings, lines = outcome_of(folder, certs)
    except (BadInput, StorageError) as exc:
        return Checked(why_not=str(exc))
    return Checked(findings=findings, lines=lines)
