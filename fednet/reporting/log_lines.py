"""What a run or a worker reports, as log lines: for a service whose output a machine reads."""

from __future__ import annotations

import logging
from typing import Any

from fednet.protocol.messages import RoundClosed
from fednet.reporting.reporter import Progressing, Transfer, WorkerView
from fednet.reporting.seldom import Seldom

log = logging.getLogger("fednet.report")

_STATUS_EVERY_S = 60.0


def fields(**named: Any) -> dict[str, Any]:
    """Return what `extra=` takes so that a structured log line has these fields."""
    return {"fields": named}


class LogReporter:
    """Satisfies `RunReporter` and `WorkerReporter`; every line is at INFO, a warning at WARNING."""

    def __init__(self) -> None:
        self._last_status = ""
        self._status, self._training, self._transfer = (Seldom(_STATUS_EVERY_S) for _ in range(3))

    def notice(self, text: str) -> None:
        """Log one line."""
        log.log(logging.WARNING if text.startswith("Warning: ") else logging.INFO, "%s", text)

    def status(self, text: str, views: list[WorkerView]) -> None:
        """Log what is waited for where it changed, and once a minute."""
        kind = text.split(":")[0]
        if kind != self._last_status:
            self._last_status, self._status = kind, Seldom(_STATUS_EVERY_S)
        if self._status.is_due():
            log.info("%s", text)

    def round_committed(self, document: dict[str, Any]) -> None:
        """Log a round with its metrics, its seconds, each worker's verdict and what it said of the model before."""
        test = document.get("test") or {}
        verdicts = {each["worker"]: each["reason"] for each in document["updates"]}
        log.info(
            "round committed",
            extra=fields(
                round=document["round"],
                accuracy=test.get("accuracy"),
                macro_f1=test.get("macro_f1"),
                loss=test.get("loss"),
                seconds=document["seconds"],
                verdicts=verdicts,
                absent=document.get("absent", []),
                client_privacy=document.get("client_privacy"),
                declined=document.get("declined", {}),
                revoked=document.get("revoked", {}),
                sites={
                    worker: {"accuracy": each["accuracy"], "images": each["images"]}
                    for worker, each in document.get("site_evaluation", {}).items()
                },
            ),
        )

    def training(self, round_number: int, progress: Progressing) -> None:
        """Log how far training is, once a minute."""
        if self._training.is_due():
            log.info(
                "training",
                extra=fields(
                    round=round_number,
                    fraction=round(progress.fraction, 3),
                    loss=progress.loss,
                    images_per_s=round(progress.images_per_s, 1),
                    remaining_s=round(progress.remaining_s, 1),
                ),
            )

    def transferring(self, round_number: int, transfer: Transfer) -> None:
        """Log how far a transfer is, once a minute."""
        if self._transfer.is_due():
            log.info(
                "transferring",
                extra=fields(
                    round=round_number,
                    what="update" if transfer.is_update else "model",
                    bytes=transfer.done,
                    bytes_in_all=transfer.total,
                ),
            )

    def round_closed(self, closed: RoundClosed) -> None:
        """Log what became of this worker's update."""
        log.info(
            "round closed",
            extra=fields(
                round=closed.round,
                verdict=closed.verdict,
                reason=closed.reason,
                weight=closed.weight,
                metrics=closed.metrics,
            ),
        )

    def close(self) -> None:
        """Nothing is held."""
