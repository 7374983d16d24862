"""`cli.py runs verify`: whether a run's folder is as its coordinator signed it; nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fednet.commands.options import certs_option, json_option, run_argument, run_folder
from fednet.errors import AuditError, BadInput, StorageError

if TYPE_CHECKING:
    from cryptography import x509

    from fednet.audit.findings import Finding
    from fednet.audit.hospital_log import LogChecked
    from fednet.audit.run_files import FoundModel
    from fednet.audit.verification import Verified
    from fednet.coordinator.inspection import Inspection
    from fednet.coordinator.replay import Replayed
    from fednet.security.signing import SignatureCheck


@click.command("verify")
@run_argument
@click.option(
    "--worker-log", type=click.Path(path_type=Path, dir_okay=False), help="A hospital's client_ID.audit.jsonl."
)
@certs_option
@click.option("--replay", is_flag=True, help="Aggregate the kept updates again (coordinator start --keep-updates).")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="The coordinator's, where --replay needs its root/.",
)
@json_option
def command(run: Path, worker_log: Path | None, certs: Path, replay: bool, data: Path | None, as_json: bool) -> None:
    """Check that the run RUN (its folder, or its name in runs/) is as its coordinator signed it."""
    from fednet.coordinator.inspection import inspect
    from fednet.security.signing import SignatureCheck, fingerprint_of

    authorities = _authorities(certs)
    check = SignatureCheck(*authorities)
    folder = run_folder(run)
    inspection = inspect(folder, read_model=read_model, check_signature=check)
    verified = inspection.verified
    log = _checked_log(worker_log, verified, check) if worker_log is not None and verified is not None else None
    replayed = _replayed(folder, inspection, data) if replay else []
    report = _Report(folder, inspection, log, replayed, authority=fingerprint_of(authorities[0]))
    if as_json:
        click.echo(json.dumps(report.document()))
    else:
        for line in report.lines():
            click.echo(line)
    if report.findings:
        raise AuditError(report.summary())


def outcome_of(folder: Path, certs: Path) -> tuple[list[str], list[str]]:
    """Return what the check of a run finds (nothing, where all is as it was signed), and what it looked at.

    Raises `BadInput` where there is no run, or no authority's certificate in `certs`; `StorageError`.
    """
    from fednet.coordinator.inspection import inspect
    from fednet.security.signing import SignatureCheck, fingerprint_of

    authorities = _authorities(certs)
    inspection = inspect(folder, read_model=read_model, check_signature=SignatureCheck(*authorities))
    report = _Report(folder, inspection, None, [], authority=fingerprint_of(authorities[0]))
    return [str(each) for each in report.findings], [] if report.findings else report.lines()[1:]


class _Report:
    """What was checked and found, for people and as a document."""

    def __init__(
        self,
        folder: Path,
        inspection: Inspection,
        log: LogChecked | None,
        replayed: Sequence[Replayed],
        *,
        authority: str,
    ) -> None:
        self._folder, self._inspection, self._log, self._replayed = folder, inspection, log, replayed
        self._authority = authority
        self.findings: list[Finding] = [
            *inspection.findings,
            *(log.findings if log else ()),
            *(finding for each in replayed for finding in each.findings),
        ]

    def document(self) -> dict[str, Any]:
        """Return it all in plain JSON types."""
        verified = self._inspection.verified
        return {
            "run": self._folder.name if verified is None else verified.run,
            "folder": str(self._folder),
            "ok": not self.findings,
            "findings": [asdict(each) for each in self.findings],
            "checked": self._checked(),
            "notes": list(self._inspection.notes),
        }

    def lines(self) -> list[str]:
        """Return one line for each finding; where there is none, a few that say what was checked."""
        if self.findings:
            return [str(each) for each in self.findings] + self._replay_lines()
        checked, verified = self._checked(), self._inspection.verified
        assert verified is not None, "a database that cannot be read is a finding"
        numbers = f"rounds {verified.records[0].round} to {verified.records[-1].round}"
        return [
            f"{self._folder}: run {verified.run}",
            f"{checked['records']} records ({numbers}), each sealing the one before and signed by the coordinator",
            f"authority: SHA-256 {self._authority}",
            f"{checked['entries']} entries, {checked['models']} models, {checked['updates']} kept updates: as recorded",
            *([f"{checked['sealed']} files: not a byte changed since the run was sealed"] if checked["sealed"] else []),
            *self._log_lines(),
            *self._replay_lines(),
            *self._inspection.notes,
        ]

    def summary(self) -> str:
        """Return the line that the command fails with."""
        count = "1 finding" if len(self.findings) == 1 else f"{len(self.findings)} findings"
        return f"{self._folder} is not as its coordinator signed it: {count}"

    def _checked(self) -> dict[str, Any]:
        found = self._inspection
        records = found.verified.records if found.verified else ()
        return {
            "authority": self._authority,
            "records": len(records),
            "signatures": sum(each.is_signed for each in records),
            "entries": sum(len(each.entries) for each in records),
            "models": found.models,
            "updates": found.updates,
            "sealed": found.sealed,
            "shown": self._log.records if self._log else 0,
            "acknowledged": self._log.acknowledged if self._log else 0,
            "replayed": [each.round for each in self._replayed if not each.skipped],
            "not_replayed": [each.round for each in self._replayed if each.skipped],
        }

    def _log_lines(self) -> list[str]:
        if self._log is None:
            return []
        return [
            f"the hospital's log: {self._log.records} records as it was shown them, "
            f"{self._log.acknowledged} acknowledged updates as it sent them"
        ]

    def _replay_lines(self) -> list[str]:
        lines = [
            f"round {each.round}: " + (f"not replayed: {each.skipped}" if each.skipped else _what_is_same(each))
            for each in self._replayed
            if not each.findings
        ]
        skipped = sum(bool(each.skipped) for each in self._replayed)
        return lines + ([f"{skipped} of {len(self._replayed)} rounds were not replayed"] if skipped else [])


def _authorities(certs: Path) -> list[x509.Certificate]:
    """Return the authority, then those before and after it: a run may span a change-over."""
    from fednet.security.rotation import authorities_in

    path = certs / "authority" / "ca.pem"
    if not path.is_file():
        raise BadInput(
            f"{path}",
            found="no such file",
            expected="the certificate of the authority that the run's coordinator belongs to",
            todo="name its folder with --certs",
        )
    found = authorities_in(certs)
    return [*found.trusted, *found.retired]


def _what_is_same(replayed: Replayed) -> str:
    if replayed.has_noise:
        return "replayed: same verdicts; its model cannot be computed again (the noise of client-level privacy)"
    return "replayed: same model"


def read_model(path: Path) -> FoundModel:
    from fednet.audit.run_files import FoundModel
    from fednet.commands import wiring
    from fednet.tensors import digest_of, pack

    found = wiring.load_checkpoint(path)
    flat = pack(found.state, wiring.manifest_for(found.build()))
    return FoundModel(sha256=digest_of(flat), run=found.facts.run, round=found.facts.round)


def _checked_log(path: Path, verified: Verified, check: SignatureCheck) -> LogChecked:
    from fednet.audit.hospital_log import check_log
    from fednet.storage.journal import read_journal

    try:
        lines = read_journal(path)
    except StorageError as exc:
        raise BadInput(f"--worker-log {path}", found=str(exc), expected="a hospital's client_ID.audit.jsonl") from exc
    checked = check_log(lines, verified.records, run=verified.run, check_signature=check)
    if checked is None:
        raise BadInput(
            f"--worker-log {path}", found=f"nothing of run {verified.run}", expected="the log of a hospital in this run"
        )
    return checked


def _replayed(folder: Path, inspection: Inspection, data: Path | None) -> list[Replayed]:
    import torch

    from data.loaders import ScanLoader
    from fednet.aggregation.batch_norm import Refitter
    from fednet.aggregation.rules.registry import recipe_named
    from fednet.commands import wiring
    from fednet.config import run_settings_from
    from fednet.coordinator.replay import Replay

    verified = inspection.verified
    if verified is None or verified.settings is None:
        return []  # it is a finding that they cannot be read
    settings = run_settings_from(verified.settings)
    needs_root = recipe_named(settings.aggregator, settings.pre).rule.needs_root
    needs_validation = settings.batch_norm == "reestimated"
    if (needs_root or needs_validation) and data is None:
        asks = f"{settings.recipe_name}, which judges updates by" if needs_root else "BatchNorm statistics of"
        raise BadInput(
            "--replay",
            found=f"{asks} the coordinator's own scans",
            todo="add --data, the folder that `coordinator start` had",
        )

    def notice(text: str) -> None:
        click.echo(text, err=True)

    network = wiring.new_model(settings.model, seed=0, pretrained="no", weights=None, notice=notice)
    manifest = wiring.manifest_for(network)
    writer = wiring.CheckpointWriter(settings, manifest)
    trust_in = None
    if needs_root and data is not None:
        trust_in = wiring.root_of_trust(
            data, settings=settings, manifest=manifest, device=torch.device("cpu"), max_bad_files=1.0, notice=notice
        )
    refit = None
    if needs_validation and data is not None:
        scans = wiring.load_scans(data / "validation", image_size=settings.image_size, max_bad_files=1.0, notice=notice)
        refit = Refitter(network, ScanLoader(scans, torch.device("cpu")), manifest)
    replay = Replay(
        folder=folder,
        settings=settings,
        manifest=manifest,
        load=writer.load_server,
        trust_in=trust_in,
        refit=refit,
    )
    replayed = list(replay.rounds(verified))
    recorded, own = verified.records[-1].fields.get("software"), wiring.software()
    if recorded != own and any(each.findings for each in replayed):
        notice(f"replayed with other software than the run's, which may round otherwise: {own}, not {recorded}")
    if all(each.skipped for each in replayed) and not inspection.findings:
        raise BadInput(f"--replay of {folder}", found="no updates were kept", todo="run with --keep-updates")
    return replayed
