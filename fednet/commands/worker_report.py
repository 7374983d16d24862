"""`cli.py worker report`: what left this hospital, as one HTML page; by its own log, and nobody is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from fednet.commands.inspecting import document_of, looked_at, require_held, whose_options


@click.command("report")
@whose_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page's file (default: client_ID.report.html, beside the model's file).",
)
@click.option("--pdf", is_flag=True, help="Also as PDF beside it, by a Chromium, Chrome or Edge of this machine.")
def report(worker_id: str | None, save: Path | None, certs: Path, ca: Path | None, out: Path | None, pdf: bool) -> None:
    """Write what left this hospital as one HTML page: losses, verdicts, bytes, digests, privacy spent."""
    from fednet.reporting.printing import pdf_beside, print_pdf, require_browser
    from fednet.reporting.worker_report import worker_report
    from fednet.storage.atomic import write_text

    if pdf:
        require_browser()
    found = looked_at(worker_id, save, certs=certs, ca=ca)
    document, made = document_of(found), datetime.now(UTC)
    stem = found.log.name.removesuffix(".audit.jsonl")
    name = next((run.worker for run in reversed(found.runs) if run.worker), stem)
    path = out or found.log.with_name(f"{stem}.report.html")
    written = [path, pdf_beside(path)] if pdf else [path]
    write_text(path, worker_report(document, name=name, made=made))
    if pdf:
        print_pdf(worker_report(document, name=name, made=made, is_open=True), written[-1])
    for each in written:
        click.echo(f"{each}: {each.stat().st_size:,} bytes")
    require_held(found)
