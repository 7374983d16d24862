"""Computes a run's rounds again from the updates that it kept, on the CPU: the same model, the same verdicts?"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fednet.aggregation.server_optimizer import ServerState
from fednet.audit.findings import Finding, field_findings
from fednet.audit.record import settings_digest
from fednet.audit.verification import CheckedRecord, Verified
from fednet.compression.forms import PLAIN, form_named
from fednet.config import RunSettings, WorkerName
from fednet.coordinator.aggregator import TrustIn, combine_updates
from fednet.coordinator.conclusions import RESENT, quarantined_after, resent_after
from fednet.coordinator.desk import DeliveredUpdate, write_decoded
from fednet.coordinator.service import Refit
from fednet.errors import AggregationError, ModelError, RemoteProtocolError, StorageError
from fednet.ranking import Document
from fednet.storage.spool import spool_path
from fednet.storage.store import checkpoint_name
from fednet.tensors import Manifest, digest_of

LoadModel = Callable[[Path], tuple[torch.Tensor, ServerState]]
"""Returns the flat model (uint8) in a checkpoint and the server's state with it; raises `ModelError`."""

_SAME_NUMBER = 1e-6  # relative: another machine may sum distances in another order; what decides is compared exactly
_MEASURED = ("score", "norm", "cosine", "weight")
_DECIDED = ("selected", "quarantined", "reason")
_UNSCORED = "rejected before scoring: "


Before = tuple[torch.Tensor, ServerState]
"""What a round starts from: the flat model (uint8), and what the server's optimiser remembers."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What became of one round when it was computed again."""

    round: int
    findings: tuple[Finding, ...] = ()
    skipped: str = ""  # why it could not be computed
    has_noise: bool = False  # of client-level privacy: the verdicts were compared, the model cannot be


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A run's rounds, to be computed again."""

    folder: Path
    settings: RunSettings
    manifest: Manifest
    load: LoadModel
    trust_in: TrustIn | None = None  # of a rule that asks for a root of trust
    refit: Refit | None = None  # where BatchNorm statistics are the coordinator's

    def rounds(self, verified: Verified) -> Iterator[Replayed]:
        """Yield what becomes of each round, computed from the model before it: replayed just now, or kept."""
        before: Before | None = None
        documents: list[Document] = []
        for record in verified.records:
            if record.document is None:
                before = None
                continue
            try:
                before, findings = self._round(record, record.document, documents, before)
                yield Replayed(
                    round=record.round, findings=tuple(findings), has_noise="client_privacy" in record.document
                )
            except _NotKept as exc:
                before = None
                yield Replayed(round=record.round, skipped=str(exc))
            documents.append(record.document)

    def _round(
        self, record: CheckedRecord, document: Document, earlier: Sequence[Document], before: Before | None
    ) -> tuple[Before | None, list[Finding]]:
        """Return what the round's updates make, and how that differs from the record."""
        number = record.round
        with tempfile.TemporaryDirectory() as scratch:
            try:
                updates = self._updates(number, document, Path(scratch))
                base, server = self._base(record, before)
                combined = combine_updates(
                    base,
                    updates,
                    manifest=self.manifest,
                    settings=self.settings,
                    round_number=number,
                    device=torch.device("cpu"),
                    trust_in=self.trust_in,
                    quarantined=self._quarantined(record, document, earlier),
                    resent=self._resent(record, document, earlier),
                    server=server,
                )
            except (AggregationError, StorageError, RemoteProtocolError) as exc:
                return None, [Finding(round=number, field="replay", found=str(exc))]
        if "client_privacy" in document:  # whose noise nobody can draw again: the next round starts from what is kept
            return None, verdict_findings(number, combined.document(updates), document)
        after = combined.model if self.refit is None else self.refit(combined.model), combined.server
        if "refused" in document:  # by the guard: it is validation that says so, which is not judged again
            after = base, server
        found, signed = {"model_after": digest_of(after[0])}, {"model_after": record.fields["model_after"]}
        findings = field_findings(found, signed, round_number=number, within="replayed ")
        return after, findings + verdict_findings(number, combined.document(updates), document)

    def _base(self, record: CheckedRecord, before: Before | None) -> Before:
        wanted = record.fields["model_before"]
        if before is not None and digest_of(before[0]) == wanted:
            return before
        try:
            kept = self.load(self.folder / "checkpoints" / checkpoint_name(record.round - 1))
        except ModelError as exc:
            raise _NotKept("the model before it was not kept") from exc
        if digest_of(kept[0]) != wanted:
            raise _NotKept("the model before it is not the one that was kept")
        return kept

    def _updates(self, number: int, document: Document, scratch: Path) -> dict[WorkerName, DeliveredUpdate]:
        """Return the round's updates, decoded into `scratch` where they travelled in another form."""
        form = form_named(self.settings.compress, option="compress")
        updates = {}
        for each in document["updates"]:
            name = WorkerName(each["worker"])
            path = spool_path(self.folder, number, name)
            if not path.is_file():
                raise _NotKept("its updates were not kept")
            nbytes = path.stat().st_size
            if form != PLAIN:
                target = scratch / path.name
                write_decoded(path, target, nbytes=nbytes, form=form, manifest=self.manifest)
                path = target
            updates[name] = DeliveredUpdate(
                worker=name,
                path=path,
                sha256=each["sha256"],
                nbytes=nbytes,
                samples=each["samples"],
                train_s=each["train_s"],
                loss=each["loss"] or 0.0,
                arrived_s=each["arrived_s"],
                fingerprint=each["fingerprint"],
            )
        return updates

    def _quarantined(
        self, record: CheckedRecord, document: Document, before: Sequence[Document]
    ) -> Mapping[WorkerName, str]:
        """Return who was left out: as the rounds before decide, or as recorded where those or the settings differ."""
        if self._knows_all(record, before):
            return quarantined_after(before, self.settings)
        return _reasons(each for each in document["updates"] if each["quarantined"])

    def _resent(
        self, record: CheckedRecord, document: Document, before: Sequence[Document]
    ) -> Mapping[WorkerName, str]:
        """Return whose updates had been sent before, likewise."""
        if self._knows_all(record, before):
            digests = {WorkerName(each["worker"]): each["sha256"] for each in document["updates"]}
            return resent_after(before, digests, self.settings)
        return _reasons(each for each in document["updates"] if each["reason"].startswith(f"{_UNSCORED}{RESENT}"))

    def _knows_all(self, record: CheckedRecord, before: Sequence[Document]) -> bool:
        """Whether all rounds before are known, and the settings of then."""
        is_whole = len(before) == record.round - 1
        return is_whole and settings_digest(self.settings.to_dict()) == record.fields["settings_sha256"]


def _reasons(updates: Iterable[Mapping[str, Any]]) -> dict[WorkerName, str]:
    return {WorkerName(each["worker"]): each["reason"].removeprefix(_UNSCORED) for each in updates}


class _NotKept(Exception):
    """A round lacks what it would be computed from."""


def verdict_findings(number: int, found: Document, recorded: Document) -> list[Finding]:
    """Return where the verdicts of a replayed round are not the recorded ones; measured numbers may differ a little."""
    ours = {each["worker"]: each for each in found["updates"]}
    findings = field_findings(
        {"byzantine": found["byzantine"]}, {"byzantine": recorded["byzantine"]}, round_number=number
    )
    for each in recorded["updates"]:
        own, within = ours[each["worker"]], f"replayed updates.{each['worker']}."
        names = [*_DECIDED, *(name for name in _MEASURED if not _is_close(own[name], each[name]))]
        findings += field_findings(
            {name: own[name] for name in names},
            {name: each[name] for name in names},
            round_number=number,
            within=within,
        )
    return findings


def _is_close(found: Any, recorded: Any) -> bool:
    if not isinstance(found, int | float) or not isinstance(recorded, int | float):
        return found is recorded
    return math.isclose(found, recorded, rel_tol=_SAME_NUMBER, abs_tol=_SAME_NUMBER)
