"""What a run's files must hold, as its records say. Pure.

What follows from a round is published after its commit: of a run under way it may be a round behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fednet.audit.evidence import RoundRow
from fednet.audit.findings import Finding, plain
from fednet.audit.run_files import RoundsModel
from fednet.audit.verification import Verified, settings_sha256
from fednet.config import RunSettings, run_settings_from
from fednet.coordinator.conclusions import history_of
from fednet.errors import BadInput
from fednet.ranking import Document, best_of
from fednet.storage.store import checkpoint_name

BEST, FINAL, HISTORY = "best.pth", "final.pth", "history.json"
CHECKPOINTS = "checkpoints"


def odd_checkpoints(rows: Sequence[RoundRow]) -> list[Finding]:
    """Return the rows whose checkpoint is no file's name."""
    return [
        Finding(round=row.round, field="checkpoint", found=plain(row.checkpoint), expected="a file's name, or none")
        for row in rows
        if not _is_file_name(row.checkpoint)
    ]


def expected_models(
    rows: Sequence[RoundRow], verified: Verified, *, is_finished: bool
) -> dict[str, Sequence[RoundsModel]]:
    """Return for each model's file the models that it may hold, the likeliest first."""
    signed = {each.round: RoundsModel(each.round, each.model_sha256) for each in verified.records if each.fields}
    kept = {
        row.round: f"{CHECKPOINTS}/{row.checkpoint}" for row in rows if row.checkpoint and _is_file_name(row.checkpoint)
    }
    kept[0] = f"{CHECKPOINTS}/{checkpoint_name(0)}"
    expected: dict[str, Sequence[RoundsModel]] = {
        kept[number]: [model] for number, model in signed.items() if number in kept
    }
    best = [best_of(documents) for documents in _published(verified, is_finished=is_finished)]
    if best and signed.keys() >= set(best):
        expected[BEST] = [signed[number] for number in best]
    last = verified.records[-1].round if verified.records else 0
    if is_finished and last in signed:
        expected[FINAL] = [signed[last]]
    return expected


def expected_histories(
    verified: Verified, settings: RunSettings, found: Mapping[str, Any], *, is_finished: bool
) -> list[dict[str, Any]]:
    """Return what `history.json` may say, the likeliest first; of a run under way it may have settings of before."""
    either = [(settings, verified.settings)]
    if not is_finished and (before := _settings_signed_once(verified, found.get("settings"))) is not None:
        either.append((before, found["settings"]))
    made = [
        history_of(verified.run, each, documents, stated=stated)
        for each, stated in either
        for documents in _published(verified, is_finished=is_finished)
    ]
    loaded: list[dict[str, Any]] = json.loads(json.dumps(made))  # as a reader of the file has it
    return loaded


def _published(verified: Verified, *, is_finished: bool) -> list[Sequence[Document]]:
    """Return the rounds that files may follow from; none where files may be missing, or rounds are not vouched for."""
    documents = verified.documents
    if not documents or not verified.knows_all_rounds:
        return []
    if is_finished:
        return [documents]
    return [documents, documents[:-1]] if len(documents) > 1 else []


def _settings_signed_once(verified: Verified, settings: object) -> RunSettings | None:
    signed = {each.fields.get("settings_sha256") for each in verified.records}
    if not isinstance(settings, dict) or settings_sha256(settings) not in signed:
        return None
    try:
        return run_settings_from(settings)
    except BadInput:
        return None


def _is_file_name(checkpoint: object) -> bool:
    return isinstance(checkpoint, str) and not {"/", "\0"} & set(checkpoint)
