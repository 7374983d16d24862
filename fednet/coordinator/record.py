"""What a run leaves behind: a checkpoint, a row and a signed record of each round, `best.pth`, `history.json`."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from fednet.aggregation.reputation import Standing
from fednet.aggregation.server_optimizer import FRESH, ServerState
from fednet.audit import merkle
from fednet.audit.own_chain import Shown
from fednet.audit.record import (
    CHOSEN_METRICS,
    NOTHING_BEFORE,
    SignedRecord,
    Signer,
    canonical,
    document_text,
    entry_of,
    make_header,
    read_header,
)
from fednet.config import RunId, RunSettings, WorkerName
from fednet.coordinator.conclusions import history_of, quarantined_after, resent_after, suspects_after
from fednet.ranking import best_of, is_complete
from fednet.reporting.model_card import card_files
from fednet.storage import disk
from fednet.storage.atomic import publish, write_json
from fednet.storage.store import CommittedRound, RunStore, checkpoint_name
from fednet.tensors import digest_of

SaveModel = Callable[[Path, torch.Tensor, dict[str, Any]], None]
"""Writes a flat model (uint8) as a checkpoint, atomically; the dict holds `round` and `run`."""


@dataclass
class Timings:
    """Seconds of one round, by what they were spent on; `round` is all of it, on the coordinator's clock."""

    train: float = 0.0
    transfer: float = 0.0
    aggregate: float = 0.0
    evaluate: float = 0.0
    commit: float = 0.0
    round: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What stays on disk of rounds that are over: the best round's checkpoint does always."""

    checkpoints: int = 0  # of the last so many rounds; 0: of all
    updates: bool = False


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """A run whose last round is committed."""

    folder: Path
    run: RunId
    settings: RunSettings
    rounds: Sequence[CommittedRound]
    began: Mapping[str, Any]  # what the first record's header says
    record: SignedRecord  # the last one


HandOn = Callable[[EndedRun], None]
"""Puts what the run hands on into its folder; done again after a crash (coordinator.handover)."""


class RunRecord:
    """Writes a run's rounds. The database row is the commit point: files come before it, copies of them after."""

    def __init__(
        self,
        *,
        run: RunId,
        settings: RunSettings,
        store: RunStore,
        save: SaveModel,
        signer: Signer,
        software: Mapping[str, str],
        retention: Retention | None = None,
        hand_on: HandOn | None = None,
    ) -> None:
        """`software`: name -> version of what decides the numbers."""
        self._hand_on = hand_on
        self._run = run
        self._settings = settings
        self._store = store
        self._save = save
        self._signer = signer
        self._software = dict(software)
        self._retention = retention or Retention()
        self._folder = store.folder
        self._rounds: list[CommittedRound] = store.rounds()
        records = store.records()
        self._headers = [(each.round, each.header) for each in records]
        self._show(next(iter(records[-1:]), None))

    def sign_with(self, signer: Signer) -> None:
        """Sign records from the next one on with a new certificate's key; any thread may call it."""
        self._signer = signer

    @property
    def rounds(self) -> list[CommittedRound]:
        """All committed rounds, first to last."""
        return list(self._rounds)

    @property
    def is_complete(self) -> bool:
        """Whether the run's rounds are over."""
        return is_complete(self._documents(), self._settings)

    def begin(self, model: torch.Tensor, *, manifest: str) -> None:
        """Make the run exist, with the model (uint8 flat) that it starts from as checkpoint 0."""
        self._save(self._folder / "checkpoints" / checkpoint_name(0), model, {"round": 0, "run": self._run})
        digest = digest_of(model)
        first = self._signed(0, digest, digest, document={}, facts={"manifest": manifest})
        software = f"fednet {self._software['fednet']}"
        self._store.begin(self._run, self._settings, first, manifest=manifest, software=software)
        self._show(first)

    def resume(self, model: torch.Tensor) -> None:
        """Go on with a run under these settings; one from before there were chains gets the beginning of one."""
        first = None
        if self._chain_end is None:
            digest = digest_of(model)
            first = self._signed(len(self._rounds), digest, digest, document={}, facts={})
        self._store.resume(self._settings, first)
        self._show(self._chain_end or first)

    def commit(
        self,
        document: dict[str, Any],
        model: torch.Tensor,
        timings: Timings,
        *,
        round_began: float,
        server: ServerState = FRESH,
    ) -> dict[str, Any]:
        """Make a round durable and return its document as stored. Raises `DiskFull` with nothing committed.

        `round_began` is a `time.perf_counter()` moment; `server` lies in the model's checkpoint, beside it.
        """
        began = time.perf_counter()
        number: int = document["round"]
        checkpoint = checkpoint_name(number)
        facts = {"round": number, "run": self._run, "extra": {"server": dict(server.moments)} if server.moments else {}}
        self._save(self._folder / "checkpoints" / checkpoint, model, facts)
        digest = digest_of(model)
        now = time.perf_counter()
        timings.commit, timings.round = now - began, now - round_began
        document = document | {"model_sha256": digest, "seconds": asdict(timings)}
        if server.moments:
            document["server_sha256"] = server.digest
        record = self._record_of(document)
        committed = CommittedRound(round=number, checkpoint=checkpoint, model_sha256=digest, document=document)
        self._store.commit(committed, record)
        self._rounds.append(committed)
        self._show(record)
        self.publish()
        return document

    def publish(self) -> None:
        """Write what follows from the committed rounds: `history.json`, and `best.pth` by validation alone."""
        if not self._rounds:
            return
        documents = self._documents()
        best = best_of(documents)
        checkpoint = next(each.checkpoint for each in self._rounds if each.round == best)
        self._publish_model(checkpoint, "best.pth")
        write_json(self._folder / "history.json", history_of(self._run, self._settings, documents))
        self._drop_checkpoints(best)

    def shown_to(self, worker: WorkerName) -> Shown:
        """Return the last record as this worker may see it."""
        record, position = self._chain_end, self._positions.get(worker)
        assert record is not None, "a run begins with a record"
        return Shown(
            header=record.header,
            signature=record.signature,
            certificate=record.certificate,
            entry=b"" if position is None else record.entries[position],
            position=position or 0,
            path=b"" if position is None else self._tree.path(position),
        )

    def headers_after(self, round_number: int, most: int) -> list[bytes]:
        """Return the headers of the records that come next, at most so many."""
        first = bisect.bisect_right(self._headers, round_number, key=lambda each: each[0])
        return [header for _, header in self._headers[first : first + most]]

    def last_update_of(self, worker: WorkerName) -> dict[str, Any] | None:
        """Return what the last committed round says of this worker's update; None: it had none in time."""
        position = self._positions.get(worker)
        return None if position is None else self._rounds[-1].document["updates"][position]

    def suspects(self) -> list[Standing]:
        """Return who was rejected too often of late: as often as quarantine asks for, or else always."""
        return suspects_after(self._documents(), self._settings)

    def quarantined(self) -> dict[WorkerName, str]:
        """Return whose updates the next round leaves out, and why: if the operator says so, at most f workers."""
        return quarantined_after(self._documents(), self._settings)

    def resent(self, digests: Mapping[WorkerName, str]) -> dict[WorkerName, str]:
        """Return whose update of the next round was sent before, and by whom; `digests` by worker."""
        return resent_after(self._documents(), digests, self._settings)

    def finish(self) -> None:
        """Publish the last round's model as `final.pth`, and whatever else the run hands on."""
        self._publish_model(self._rounds[-1].checkpoint, "final.pth")
        if self._hand_on is not None:
            self._hand_on(self._ended())

    def _publish_model(self, checkpoint: str, name: str) -> None:
        """Give a round's model a name; the card of the model that had it is gone before."""
        for card in card_files(name):
            if (self._folder / card).exists():
                disk.unlink(self._folder / card)
        publish(self._folder / "checkpoints" / checkpoint, self._folder / name)

    def _ended(self) -> EndedRun:
        assert self._chain_end is not None, "a run begins with a record"
        return EndedRun(
            folder=self._folder,
            run=self._run,
            settings=self._settings,
            rounds=self.rounds,
            began=read_header(self._headers[0][1]),
            record=self._chain_end,
        )

    def _documents(self) -> list[dict[str, Any]]:
        return [each.document for each in self._rounds]

    def _show(self, record: SignedRecord | None) -> None:
        self._chain_end = record
        if record is not None and (not self._headers or self._headers[-1][0] < record.round):
            self._headers.append((record.round, record.header))
        self._tree = merkle.Tree(record.entries if record else ())
        updates = self._rounds[-1].document["updates"] if record and record.entries else ()
        self._positions = {update["worker"]: position for position, update in enumerate(updates)}

    def _record_of(self, document: dict[str, Any]) -> SignedRecord:
        test = document.get("test") or {}
        return self._signed(
            document["round"],
            self._rounds[-1].model_sha256 if self._rounds else self._first_model(),
            document["model_sha256"],
            document=document,
            facts={
                "aggregator": self._settings.recipe_name,
                "byzantine": document["byzantine"],
                "test": {name: test[name] for name in CHOSEN_METRICS if name in test},
            },
        )

    def _first_model(self) -> str:
        assert self._chain_end is not None, "a run begins with a record"
        return str(self._chain_end.fields["model_after"])

    def _signed(
        self, number: int, before: str, after: str, *, document: dict[str, Any], facts: dict[str, Any]
    ) -> SignedRecord:
        signer = self._signer  # one of them for both: it may be replaced meanwhile
        entries = tuple(canonical(entry_of(update)) for update in document.get("updates", ()))
        header = make_header(
            run=self._run,
            round_number=number,
            previous=self._chain_end.digest if self._chain_end else NOTHING_BEFORE,
            entries=entries,
            model_before=before,
            model_after=after,
            document=document_text(document),
            settings=self._settings.to_dict(),
            facts=facts | {"software": self._software, "signed_s": round(time.time(), 3)},
        )
        return SignedRecord(
            header=header,
            entries=entries,
            signature=signer.sign(header),
            certificate=signer.certificate_der,
        )

    def _drop_checkpoints(self, best: int) -> None:
        """Remove checkpoints that are not kept: their rows say so first, so that no row ever misses its file."""
        keeps = self._retention.checkpoints
        for index, each in enumerate(self._rounds[:-keeps] if keeps else ()):
            if each.checkpoint and each.round != best:
                self._store.checkpoint_dropped(each.round)
                disk.unlink(self._folder / "checkpoints" / each.checkpoint)
                self._rounds[index] = CommittedRound(
                    round=each.round, checkpoint="", model_sha256=each.model_sha256, document=each.document
                )
