"""What a hospital keeps of a run's record (`client_<id>.audit.jsonl`): its evidence, should the coordinator's differ.

One line for each update before it leaves, for each that was acknowledged, for each record that it was shown, and for
each header that came in between while it was away. `cli.py runs verify RUN --worker-log FILE` compares it with the run;
`cli.py worker inspect` shows what left the hospital.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from fednet.audit.own_chain import CheckSignature, OwnChain, Shown
from fednet.errors import AuditError
from fednet.storage.journal import Journal
from fednet.worker.session import UpdateSaved

OFFERED, ACKNOWLEDGED, WITHDRAWN, RECORD, HEADER = "offered", "acknowledged", "withdrawn", "record", "header"


class RecordLog:
    """One run's part of the log, and the chain as far as it goes."""

    def __init__(self, journal: Journal, *, run: str, worker: str, check_signature: CheckSignature) -> None:
        """Raises `AuditError` when the log is damaged."""
        self._journal = journal
        self._run = run
        self.chain = OwnChain(run=run, worker=worker, check_signature=check_signature)
        self.acknowledged: dict[int, str] = {}  # round -> SHA-256 of the update that the coordinator has
        self._offered: dict[int, str] = {}  # round -> SHA-256 of the update that was offered last
        own = [line for line in journal.documents if line.get("run") == run]
        try:
            for line in own:
                if line["kind"] == OFFERED:
                    self._offered[line["round"]] = line["sha256"]
                elif line["kind"] == ACKNOWLEDGED:
                    self.acknowledged[line["round"]] = line["sha256"]
                elif line["kind"] == WITHDRAWN:
                    self.acknowledged.pop(line["round"], None)
            last = [line["header"] for line in own if line["kind"] in (RECORD, HEADER)][-1:]
            for header in last:
                self.chain.restore(header.encode())
        except (KeyError, TypeError, AttributeError) as exc:
            raise AuditError("this hospital's record log is damaged; put it aside to go on without") from exc

    def keep_offered(self, update: UpdateSaved) -> None:
        """Remember, durably, what is told and sent to the coordinator with an update; the same one again is not."""
        if self._offered.get(update.round) != update.sha256:
            self._append(OFFERED, at_s=round(time.time(), 3), **asdict(update))
            self._offered[update.round] = update.sha256

    def keep_acknowledged(self, round_number: int, sha256: str) -> None:
        """Remember, durably, which update the coordinator said it has."""
        if self.acknowledged.get(round_number) != sha256:
            self._append(ACKNOWLEDGED, round=round_number, sha256=sha256)
            self.acknowledged[round_number] = sha256

    def keep_withdrawn(self, round_number: int) -> None:
        """Remember, durably, that the coordinator could make nothing of the update and has given it up."""
        self._append(WITHDRAWN, round=round_number)
        self.acknowledged.pop(round_number, None)

    def keep_record(self, shown: Shown) -> None:
        """Remember, durably, a record that has been checked."""
        self._append(
            RECORD,
            header=shown.header.decode(),
            signature=shown.signature.hex(),
            certificate=shown.certificate.hex(),
            entry=shown.entry.decode(),
            position=shown.position,
            path=shown.path.hex(),
        )

    def keep_header(self, header: bytes) -> None:
        """Remember, durably, a header that lies between two records."""
        self._append(HEADER, header=header.decode())

    def _append(self, kind: str, **fields: Any) -> None:
        self._journal.append({"kind": kind, "run": self._run, **fields})
