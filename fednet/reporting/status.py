"""How a run stands, for whoever watches over services: a small file that its coordinator renews each second."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fednet.config import WorkerName
from fednet.errors import StorageError
from fednet.reporting.reporter import WorkerView
from fednet.reporting.run_view import MOST_EVENTS, STALLED_AFTER_S, heard_of
from fednet.storage.atomic import write_bytes
from fednet.storage.history import RunHistory, Standing, read_events, read_history

log = logging.getLogger(__name__)

STATUS_NAME = "status.json"


class StatusFile:
    """`status.json` in a run folder. It says nothing that the run needs, so no fsync is spent on it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATUS_NAME
        self._has_failed = False

    def show(
        self,
        text: str,
        *,
        phase: str,
        round_number: int,
        round_s: float | None = None,
        views: list[WorkerView],
        declined: Mapping[WorkerName, str],
    ) -> None:
        """Replace what it says; a file that cannot be written is logged once. `round_s`: how long the round has lasted.

        It is one line: 1,000 workers are 280 kB, each second.
        """
        document = {
            "updated": _iso(datetime.now(UTC)),
            "pid": os.getpid(),
            "phase": phase,
            "round": round_number,
            "round_s": _shown(round_s),
            "text": text,
            "declined": dict(declined),
            "workers": [_worker(view) for view in views],
        }
        try:
            write_bytes(self._path, json.dumps(document, separators=(",", ":")).encode(), durably=False)
        except StorageError as exc:
            if not self._has_failed:
                log.warning("%s", exc)
            self._has_failed = True


def _worker(view: WorkerView) -> dict[str, Any]:
    return {
        "name": view.name,
        "connected": view.is_connected,
        "activity": view.activity,
        "fraction": _shown(view.fraction),
        "remaining_s": _shown(view.remaining_s),
        "images_per_s": _shown(view.images_per_s),
        "loss": _shown(view.loss),
        "samples": view.samples,
        "device": view.device,
        "last_seen": _iso(view.last_seen),
        "certificate_expires": _iso(view.certificate_expires),
    }


def _shown(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Status:
    """An answer to "is everything all right?"."""

    is_healthy: bool
    text: str
    document: dict[str, Any]


def standing_of(folder: Path, *, now: datetime) -> Status:
    """Return how the run in `folder` stands; raises `BadInput` where there is none.

    Healthy: it has finished, or its coordinator is there and shows signs of life.
    """
    history = read_history(folder)
    said = live_status(folder) if history.standing is Standing.RUNNING else None
    live, heard = heard_of(history, said, read_events(folder, most=MOST_EVENTS))
    silent_s = (now - heard).total_seconds()
    is_alive = live is not None and silent_s <= STALLED_AFTER_S
    document = {
        "folder": str(folder),
        "run": history.run,
        "standing": history.standing.value,
        "rounds_done": len(history.rounds),
        "rounds": history.settings.rounds,
        "ending": history.ending,
        "declined": _declined(history),
        "live": live,
        "healthy": is_alive or history.standing is Standing.FINISHED,
    }
    text = f"{history.standing.value}: {len(history.rounds)} of {history.settings.rounds} rounds committed"
    if history.standing is Standing.STOPPED:
        text += f"; {history.ending}. `coordinator start --resume --run-dir {folder}` goes on"
    elif history.standing is Standing.RUNNING and silent_s > STALLED_AFTER_S:
        text += f"; no sign of life for {silent_s:.0f} s: it hangs, or its disk does"
    elif history.standing is Standing.RUNNING:
        text += f"; {'it is starting' if live is None else live['text']}"
    text += "".join(f"\n{line}" for line in declined_lines(history))
    return Status(bool(document["healthy"]), text, document)


def declined_lines(history: RunHistory) -> list[str]:
    """Return a sentence for each hospital that declined the run, or any of its rounds with the last reason."""
    last: dict[str, tuple[int, int, str]] = {}
    for document in history.rounds:
        for worker, reason in document.get("declined", {}).items():
            count = last[worker][0] + 1 if worker in last else 1
            last[worker] = count, document["round"], reason
    rounds = [
        f"{worker} declined {count} of {len(history.rounds)} rounds, last round {number}: {reason}"
        for worker, (count, number, reason) in sorted(last.items())
    ]
    return [f"declined the run: {each}" for each in history.declined] + rounds


def _declined(history: RunHistory) -> dict[str, Any]:
    rounds = {each["round"]: each["declined"] for each in history.rounds if "declined" in each}
    return {"run": list(history.declined), "rounds": rounds}


def live_status(folder: Path) -> dict[str, Any] | None:
    """Return what a run's coordinator said last, None where it has said nothing."""
    try:
        found: dict[str, Any] = json.loads((folder / STATUS_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return found
