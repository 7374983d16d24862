"""Inspects a run's folder without changing it: gathers what is there, and lets the pure checks judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fednet.audit.evidence import RunRows
from fednet.audit.findings import Finding, mapping_in
from fednet.audit.own_chain import CheckSignature
from fednet.audit.run_files import MISSING, Damaged, FoundModel, history_findings, kept_findings, model_findings
from fednet.audit.verification import Verified, verify
from fednet.config import RunSettings, run_settings_from
from fednet.coordinator.expected_files import HISTORY, expected_histories, expected_models, odd_checkpoints
from fednet.errors import AuditError, BadInput, ModelError
from fednet.ranking import ends_early
from fednet.storage.evidence import read_evidence
from fednet.storage.seal import SEAL, check_seal, files_now
from fednet.storage.spool import spool_folder
from fednet.storage.store import is_held

ReadModel = Callable[[Path], FoundModel]
"""Returns what a model's file holds; raises `ModelError`."""

_TRIES = 5  # at a run that goes on: files are replaced while they are looked at, and only what all looks find is wrong
_NOT_SEALED = "not sealed: the run has not finished; records and models are checked, other bytes of the files are not"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was checked of a run, and what is wrong with it."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()  # what is not covered, and why
    verified: Verified | None = None  # None: the database cannot be read
    models: int = 0
    updates: int = 0  # that were kept
    sealed: int = 0  # files


def inspect(folder: Path, *, read_model: ReadModel, check_signature: CheckSignature) -> Inspection:
    """Check records, models, kept updates, `history.json` and the seal of the run in `folder`.

    Raises `BadInput` where no run was begun, or one without records; `StorageError` where a file cannot be read.
    """
    if not (folder / "run.sqlite").is_file():
        raise BadInput(f"run {folder}", found="no run.sqlite there", todo="`cli.py runs list` shows what there is")
    lasting: list[Finding] = []
    for number in range(_TRIES):
        found = _Look(folder, read_model, check_signature).inspection()
        if not found.findings or not is_held(folder):
            return found
        lasting = [each for each in found.findings if number == 0 or each in lasting]
    return replace(found, findings=tuple(lasting))


class _Look:
    """One look at a folder, and what is seen."""

    def __init__(self, folder: Path, read_model: ReadModel, check_signature: CheckSignature) -> None:
        self._folder = folder
        self._read_model = read_model
        self._check_signature = check_signature
        self._is_running = is_held(folder)
        self._history = _history_in(folder / HISTORY)
        self._files = files_now(folder)

    def inspection(self) -> Inspection:
        """Return what is wrong with what is seen."""
        try:
            rows = read_evidence(self._folder)
        except AuditError as exc:
            damaged = Finding(file="run.sqlite", found=str(exc))
            return Inspection(findings=(damaged, *self._seal_findings(None, is_finished=False)))
        verified = verify(rows, history=_known(self._history), check_signature=self._check_signature)
        settings = _settings_of(verified)
        is_finished = settings is not None and _is_complete(verified, settings) and not self._is_running
        models, about_models = self._model_findings(rows, verified, is_finished=is_finished)
        findings = [*verified.findings, *odd_checkpoints(rows.rounds), *about_models]
        if settings is not None:
            findings += self._history_findings(verified, settings, is_finished=is_finished)
        findings += self._kept_findings(verified, is_finished=is_finished)
        findings += self._seal_findings(verified, is_finished=is_finished)
        is_sealed = (self._folder / SEAL).exists()
        return Inspection(
            findings=tuple(findings),
            notes=verified.notes if is_finished or is_sealed else (*verified.notes, _NOT_SEALED),
            verified=verified,
            models=models,
            updates=sum(name.startswith("spool/") for name in self._files),
            sealed=len(self._files) if is_sealed else 0,
        )

    def _model_findings(self, rows: RunRows, verified: Verified, *, is_finished: bool) -> tuple[int, list[Finding]]:
        findings: list[Finding] = []
        expected = expected_models(rows.rounds, verified, is_finished=is_finished)
        for name, allowed in expected.items():
            findings += model_findings(name, self._model(self._folder / name), allowed, run=verified.run)
        return len(expected), findings

    def _model(self, path: Path) -> FoundModel | Damaged:
        if not path.is_file():
            return MISSING
        try:
            return self._read_model(path)
        except ModelError as exc:
            return Damaged(exc.found)

    def _history_findings(self, verified: Verified, settings: RunSettings, *, is_finished: bool) -> list[Finding]:
        expected = expected_histories(verified, settings, _known(self._history) or {}, is_finished=is_finished)
        return history_findings(HISTORY, self._history, expected) if expected else []

    def _kept_findings(self, verified: Verified, *, is_finished: bool) -> list[Finding]:
        """Return what is wrong with kept updates; the last round's, of a run under way, may be on their way out."""
        digests = {name: file.sha256 for name, file in self._files.items()}
        findings: list[Finding] = []
        for record in verified.records:
            folder = spool_folder(self._folder, record.round)
            is_leaving = record.round == verified.committed and not is_finished
            if record.document is not None and folder.is_dir() and not is_leaving:
                name = folder.relative_to(self._folder).as_posix()
                findings += kept_findings(record.round, record.document["updates"], digests, folder=name)
        return findings

    def _seal_findings(self, verified: Verified | None, *, is_finished: bool) -> list[Finding]:
        try:
            content = (self._folder / SEAL).read_bytes()
        except OSError:
            missing = (
                "missing: the run has finished. If it was cut short just then, `coordinator start --resume` seals it"
            )
            return [Finding(file=SEAL, found=missing)] if is_finished else []
        return check_seal(
            content,
            self._files,
            run=None if verified is None else verified.run,
            record=verified.records[-1].digest if verified is not None and verified.records else None,
            check_signature=self._check_signature,
        )


def _history_in(path: Path) -> dict[str, Any] | Damaged:
    try:
        found = mapping_in(path.read_bytes())
    except OSError:
        return MISSING
    return Damaged("no JSON object") if found is None else found


def _known(history: dict[str, Any] | Damaged) -> Mapping[str, Any] | None:
    return None if isinstance(history, Damaged) else history


def _settings_of(verified: Verified) -> RunSettings | None:
    try:
        return None if verified.settings is None else run_settings_from(verified.settings)
    except BadInput:
        return None


def _is_complete(verified: Verified, settings: RunSettings) -> bool:
    return verified.committed >= settings.rounds or ends_early(verified.documents, settings)
