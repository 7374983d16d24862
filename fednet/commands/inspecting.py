"""`cli.py worker inspect`: what left this hospital so far, by its own log; nothing is changed and nobody is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.options import F, certs_option, json_option
from fednet.commands.privacy_options import ledger_path
from fednet.config import worker_name
from fednet.errors import AuditError, BadInput

if TYPE_CHECKING:
    from fednet.audit.own_chain import CheckSignature
    from fednet.worker.disclosure import RunDisclosed, SentUpdate
    from fednet.worker.privacy_ledger import Spent

_COLUMNS = ("round", "sent (UTC)", "bytes", "SHA-256", "scans", "trained", "loss", "counts told", "what became of it")


@dataclass(frozen=True, kw_only=True)
class Found:
    """What left a hospital, by its own log and ledger."""

    log: Path
    runs: list[RunDisclosed]
    are_signatures_checked: bool
    privacy: Spent | None

    @property
    def findings(self) -> list[str]:
        """What does not hold of what the coordinator showed, by run."""
        return [f"run {each.run}: {each.chain.finding}" for each in self.runs if each.chain.finding]


def whose_options(function: F) -> F:
    """Add --id, --save, --certs and --ca: whose log is looked at, and by which authority it is checked."""
    for option in (
        click.option(
            "--ca", type=click.Path(path_type=Path), help="The coordinator's authority (default: in --certs)."
        ),
        certs_option,
        click.option("--save", type=click.Path(path_type=Path), help="Its model's file (default: client_ID.pth)."),
        click.option("--id", "worker_id", help="The worker's number or name, as for `worker join`."),
    ):
        function = option(function)
    return function


@click.command("inspect")
@whose_options
@json_option
def inspect(worker_id: str | None, save: Path | None, certs: Path, ca: Path | None, as_json: bool) -> None:
    """Show what left this hospital so far: bytes, rounds, digests, what was told, and the privacy spent."""
    found = looked_at(worker_id, save, certs=certs, ca=ca)
    if as_json:
        click.echo(json.dumps(document_of(found)))
    else:
        for line in _text(found):
            click.echo(line)
    require_held(found)


def looked_at(worker_id: str | None, save: Path | None, *, certs: Path, ca: Path | None) -> Found:
    """Return what the log and the ledger of a worker say that is named so, or whose model's file is `save`.

    Raises `BadInput` where neither is given or there is no log, `StorageError`; `AuditError` for one that is damaged.
    """
    from fednet.storage.journal import read_journal
    from fednet.worker.disclosure import disclosed
    from fednet.worker.privacy_ledger import spent_in

    if worker_id is None and save is None:
        raise BadInput("worker inspect", found="neither --id nor --save", todo="pass --id 1, say")
    name = None if worker_id is None else worker_name(f"client{worker_id}" if worker_id.isdigit() else worker_id)
    save = save or Path(f"client_{str(name).removeprefix('client')}.pth")
    log, ledger = save.with_suffix(".audit.jsonl"), ledger_path(save)
    if not log.is_file():
        raise BadInput(
            f"log {log}", found="no such file", todo="--save names the model's file that the log lies beside"
        )
    lines = read_journal(log)
    check = _signature_check(certs, ca, name or _name_in(lines))
    return Found(
        log=log,
        runs=disclosed(lines, check_signature=check),
        are_signatures_checked=check is not None,
        privacy=spent_in(ledger) if ledger.is_file() else None,
    )


def require_held(found: Found) -> None:
    """Raise `AuditError` where a record that this hospital was shown does not hold."""
    if found.findings:
        raise AuditError(f"{found.log}: {found.findings[0]}")


def _name_in(lines: Sequence[dict[str, Any]]) -> str | None:
    from fednet.worker.disclosure import disclosed

    return next((each.worker for each in disclosed(lines, check_signature=None) if each.worker), None)


def _signature_check(certs: Path, ca: Path | None, name: str | None) -> CheckSignature | None:
    """Return what checks signatures by the authorities that this worker trusts, None where it has none here."""
    from fednet.security.authority import read_certificates
    from fednet.security.enrolment import credentials_in
    from fednet.security.renewal import check_record
    from fednet.security.signing import SignatureCheck

    if ca is not None:
        return SignatureCheck(*read_certificates(ca))
    if name is None:
        return None
    credentials = credentials_in(certs, worker_name(name))
    return partial(check_record, credentials) if credentials.authority_path.is_file() else None


def document_of(found: Found) -> dict[str, Any]:
    """Return it in plain JSON types."""
    return {
        "log": str(found.log),
        "signatures_checked": found.are_signatures_checked,
        "verifies": not found.findings,
        "runs": [asdict(each) | {"bytes": each.nbytes} for each in found.runs],
        "bytes": sum(each.nbytes for each in found.runs),
        "privacy": None if found.privacy is None else asdict(found.privacy),
    }


def _text(found: Found) -> Iterator[str]:
    count = sum(len(each.updates) for each in found.runs)
    total = sum(each.nbytes for each in found.runs)
    yield f"{found.log}: {count} updates in {len(found.runs)} runs have left this hospital, {total:,} bytes"
    for run in found.runs:
        yield ""
        name = f", as {run.worker}" if run.worker else ""
        yield f"run {run.run}{name}: {len(run.updates)} updates, {run.nbytes:,} bytes"
        yield from _aligned([_COLUMNS, *(_cells(each) for each in run.updates)])
        yield _chain_text(run, are_signatures_checked=found.are_signatures_checked)
    yield ""
    yield "Beside these, each time it joined a run: its name, how many scans it trains on, and its device."
    yield _privacy_text(found.privacy)


def _cells(update: SentUpdate) -> tuple[str, ...]:
    sent = "-" if update.at_s is None else f"{datetime.fromtimestamp(update.at_s, UTC):%Y-%m-%d %H:%M:%S}"
    return (
        str(update.round),
        sent,
        "-" if update.nbytes is None else f"{update.nbytes:,}",
        f"{update.sha256[:16]}...",
        "-" if update.samples is None else str(update.samples),
        "-" if update.train_s is None else f"{update.train_s:.0f} s",
        "not told" if update.epsilon else "-" if update.loss is None else f"{update.loss:.3f}",
        _counts_text(update),
        _fate(update),
    )


def _counts_text(update: SentUpdate) -> str:
    if update.at_s is None:
        return "-"
    return f"{len(update.confusion)} of {sum(update.confusion)} scans" if update.confusion else "none"


def _fate(update: SentUpdate) -> str:
    if update.verdict == "selected" and update.weight is not None:
        return f"selected, weight {update.weight:.2f}"
    if update.verdict == "rejected":
        return f"rejected: {update.reason}"
    if update.verdict == "withdrawn":
        return "the coordinator gave it up"
    return "arrived; " + update.verdict if update.is_acknowledged else "not acknowledged; some of it may have arrived"


def _chain_text(run: RunDisclosed, *, are_signatures_checked: bool) -> str:
    chain = run.chain
    if chain.finding:
        return f"Its record DOES NOT VERIFY: {chain.finding}"
    if chain.head is None:
        return "No record of this run was shown to this hospital yet."
    how = "signatures included" if are_signatures_checked else "but for the signatures: no authority's certificate here"
    return f"Its record verifies up to round {chain.round}, {how}; its head is {chain.head}"


def _privacy_text(spent: Spent | None) -> str:
    if spent is None:
        return "Differential privacy: this worker keeps no ledger of it, so none is promised."
    return (
        f"Differential privacy: epsilon {spent.epsilon:.3f} of {spent.budget:g} spent, at delta {spent.delta:g}, "
        f"in {spent.rounds} trainings of {spent.runs} runs"
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
