"""What left a hospital, by its own log (record_log.py): each update, what was told with it, and what became of it.

Reads only what the hospital itself wrote down: the coordinator has no say in it, but for its signed records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fednet.audit.own_chain import CheckSignature, OwnChain, Shown
from fednet.errors import AuditError
from fednet.worker.record_log import ACKNOWLEDGED, HEADER, OFFERED, RECORD, WITHDRAWN

Line = Mapping[str, Any]
"""One document of the log."""
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, kw_only=True)
class SentUpdate:
    """One update that was sent, or whose sending had begun. None: a log of an earlier version did not keep it."""

    round: int
    sha256: str  # as it travelled
    at_s: float | None = None  # since 1970, when it was offered; nothing of it had left before
    nbytes: int | None = None
    samples: int | None = None  # how many scans it says it was trained on
    train_s: float | None = None
    loss: float | None = None  # nor is any told under differential privacy
    confusion: tuple[int, ...] = ()  # counts told of the round's model on held-out scans
    epsilon: float = 0.0  # of differential privacy, spent by all trainings so far; 0: none is told, as with `delta`
    delta: float = 0.0
    is_acknowledged: bool = False  # the coordinator said that it has it
    verdict: str = "not known yet"  # or `selected`, `rejected`, `withdrawn`
    reason: str = ""
    weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class ChainSeen:
    """The run's signed record, as far as this hospital was shown it."""

    round: int  # of the last record; 0: the run's beginning
    head: str | None  # digest of the last record, hex; None where none was shown
    finding: str = ""  # why it does not hold; empty: it does


@dataclass(frozen=True, kw_only=True)
class RunDisclosed:
    """What left the hospital in one run."""

    run: str
    worker: str  # empty where no record names this hospital
    updates: tuple[SentUpdate, ...]
    chain: ChainSeen

    @property
    def nbytes(self) -> int:
        """Bytes of all updates whose size is known; parts that were sent twice after a broken link count once."""
        return sum(update.nbytes or 0 for update in self.updates)


def disclosed(lines: Sequence[Line], *, check_signature: CheckSignature | None) -> list[RunDisclosed]:
    """Return each run of a log, first to last; without `check_signature` the signatures are taken as they are.

    Raises `AuditError` for a log that cannot be read.
    """
    runs = list(dict.fromkeys(str(line.get("run")) for line in lines))
    return [_run_in([line for line in lines if line.get("run") == run], run, check_signature) for run in runs]


def _run_in(lines: Sequence[Line], run: str, check_signature: CheckSignature | None) -> RunDisclosed:
    updates: dict[tuple[int, str], SentUpdate] = {}
    try:
        for line in lines:
            _note(line, updates)
        worker = next((entry["worker"] for line in lines if (entry := _entry_of(line))), "")
    except _DAMAGE as exc:
        raise AuditError("this hospital's record log is damaged: it has a line that cannot be read") from exc
    chain = _chain_of(lines, run=run, worker=worker, check_signature=check_signature or _unchecked)
    return RunDisclosed(run=run, worker=worker, updates=tuple(updates.values()), chain=chain)


def _note(line: Line, updates: dict[tuple[int, str], SentUpdate]) -> None:
    """Take what one line says of an update; a line of a kind that is not known says nothing of one."""
    kind = line["kind"]
    if kind == OFFERED:
        updates[line["round"], line["sha256"]] = SentUpdate(
            round=int(line["round"]),
            sha256=str(line["sha256"]),
            at_s=float(line["at_s"]),
            nbytes=int(line["nbytes"]),
            samples=int(line["samples"]),
            train_s=float(line["train_s"]),
            loss=None if float(line["epsilon"]) else float(line["loss"]),
            confusion=tuple(map(int, line["confusion"])),
            epsilon=float(line["epsilon"]),
            delta=float(line["delta"]),
        )
    elif kind == ACKNOWLEDGED:
        _change(updates, line["round"], line["sha256"], is_acknowledged=True)
    elif kind == WITHDRAWN:
        for number, sha256 in list(updates):
            if number == line["round"]:
                _change(updates, number, sha256, is_acknowledged=False, verdict="withdrawn")
    elif kind == RECORD and (entry := _entry_of(line)):
        key = json.loads(line["header"])["round"], entry["update_sha256"]
        told = updates[key].samples if key in updates else None
        _change(
            updates,
            *key,
            samples=int(entry["samples"]) if told is None else told,
            verdict="selected" if entry["selected"] else "rejected",
            reason=str(entry["reason"]),
            weight=float(entry["weight"]),
        )


def _change(updates: dict[tuple[int, str], SentUpdate], number: int, sha256: str, **found: Any) -> None:
    before = updates.get((number, sha256)) or SentUpdate(round=int(number), sha256=str(sha256))
    updates[number, sha256] = replace(before, **found)


def _entry_of(line: Line) -> dict[str, Any]:
    """Return this hospital's part of a record, {} where the line has none."""
    if line["kind"] != RECORD or not line["entry"]:
        return {}
    found = json.loads(line["entry"])
    if not isinstance(found, dict):
        raise TypeError("an entry is a map")
    return found


def _chain_of(lines: Sequence[Line], *, run: str, worker: str, check_signature: CheckSignature) -> ChainSeen:
    """Walk through the records again, as the worker did when it was shown them."""
    chain = OwnChain(run=run, worker=worker, check_signature=check_signature)
    acknowledged: dict[int, str] = {}
    finding = ""
    try:
        for line in lines:
            if line["kind"] == ACKNOWLEDGED:
                acknowledged[line["round"]] = line["sha256"]
            elif line["kind"] == WITHDRAWN:
                acknowledged.pop(line["round"], None)
            elif line["kind"] == HEADER:
                chain.extend([line["header"].encode()])
            elif line["kind"] == RECORD:
                chain.take(_shown_in(line), sent=acknowledged.get(json.loads(line["header"])["round"]))
    except AuditError as exc:
        finding = str(exc)
    except _DAMAGE:
        finding = "a line of the log is damaged"
    return ChainSeen(round=chain.round, head=chain.digest, finding=finding)


def _shown_in(line: Line) -> Shown:
    return Shown(
        header=line["header"].encode(),
        signature=bytes.fromhex(line["signature"]),
        certificate=bytes.fromhex(line["certificate"]),
        entry=line["entry"].encode(),
        position=line["position"],
        path=bytes.fromhex(line["path"]),
    )


def _unchecked(header: bytes, signature: bytes, certificate: bytes) -> None:
    """Nobody is there to check it against."""
