"""What there is to see of a run, as plain JSON types: of all of it, of who was rejected when, of one round. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fednet.ranking import best_of
from fednet.reporting.health import takes_few
from fednet.reporting.tally import Document, Tally, WorkerTally, rounded, tally_of
from fednet.storage.history import RunHistory, Standing

STALLED_AFTER_S = 15.0  # the status file is renewed each second: after this the coordinator hangs, or its disk does
MOST_EVENTS = 200
MOST_DISTANCES = 100  # workers whose distances a record keeps, and a page draws: 10,000 numbers are 100 KB

Live = Mapping[str, Any]
"""What a run's coordinator said last (reporting.status)."""


def overview(
    history: RunHistory,
    live: Live | None,
    *,
    now: datetime,
    events: Sequence[Mapping[str, Any]],
    audit: Mapping[str, Any] | None,
    tally: Tally | None = None,
) -> dict[str, Any]:
    """Return the whole run at a glance.

    `events`: {at, what, detail}, newest first; `audit`: {round, head}. Where `tally` is given it is of all rounds, and
    those of `history` are not looked at.
    """
    settings = history.settings
    tally = tally or tally_of(history.rounds, settings.classes)
    is_running = history.standing is Standing.RUNNING
    live, heard = heard_of(history, live, events)
    silent_s = (now - heard).total_seconds() if is_running else 0.0
    live = live if is_running else None
    selected = sum(tally.series["selected"])
    return {
        "run": history.run,
        "name": history.folder.name,
        "software": history.software,
        "begun": history.begun.isoformat(timespec="seconds"),
        "standing": history.standing.value,
        "ending": history.ending,
        "stalled_s": rounded(silent_s) if silent_s > STALLED_AFTER_S else None,
        "settings": settings.to_dict(),
        "classes": list(settings.classes),
        "recipe": settings.recipe_name,
        "byzantine": settings.byzantine,
        "rounds_total": settings.rounds,
        "rounds_done": len(tally.rounds),
        "left_s": _left_s(tally, live, rounds=settings.rounds) if is_running else None,
        "best_round": best_of(tally.ranked) if tally.ranked else None,
        "series": tally.series,
        "rejections": dict(tally.rejections),
        "takes_few": takes_few(
            settings.recipe_name, updates=selected + sum(tally.series["rejected"]), counted=selected
        ),
        "live": None if live is None else _live(live, workers=settings.workers),
        "workers": _workers(tally, live, declined=history.declined),
        "class_mix": tally.class_mix,
        "privacy": tally.privacy,
        "audit": audit,
        "events": list(events[:MOST_EVENTS]),
    }


def verdicts(history: RunHistory) -> dict[str, Any]:
    """Return who was selected or rejected in each round (`Tally.verdicts`)."""
    return tally_of(history.rounds, history.settings.classes).verdicts()


def view_of(document: Document) -> dict[str, Any]:
    """Return a committed round with all that a page draws of it.

    `distances` of the scored updates, not squared, and `map`, their classical scaling in the plane, are None where the
    record has none (differential privacy, very many workers); `distances_left_out` is then how many were scored.
    """
    aggregation = document.get("aggregation") or {}
    scored: list[str] = list(aggregation.get("scored", ()))
    squared: Sequence[Sequence[float]] | None = aggregation.get("squared_distances")
    drawn = squared if squared is not None and len(scored) <= MOST_DISTANCES else None
    return {
        "round": document["round"],
        "byzantine": document.get("byzantine"),
        "updates": list(document.get("updates", ())),
        "scored": scored,
        "cut": aggregation.get("cut"),
        "note": aggregation.get("note", ""),
        "distances": None if drawn is None else [[math.sqrt(value) for value in row] for row in drawn],
        "distances_left_out": len(scored) if drawn is None else 0,
        "map": aggregation.get("map") if squared is None else _map_of(squared),
        "confusion": {part: (document.get(part) or {}).get("confusion") for part in ("test", "validation")},
        **{part: document.get(part) for part in ("test", "validation", "refused", "client_privacy", "model_sha256")},
        "site_evaluation": document.get("site_evaluation", {}),
        "seconds": document.get("seconds", {}),
        "absent": list(document.get("absent", ())),
        "declined": document.get("declined", {}),
        "revoked": document.get("revoked", {}),
    }


def heard_of(
    history: RunHistory, live: Live | None, events: Sequence[Mapping[str, Any]]
) -> tuple[Live | None, datetime]:
    """Return what the coordinator's process said last, None before it did, and when it last showed a sign of life.

    Its start is one. What was said before the run began, or was resumed, is left of an earlier process. `events`:
    newest first.
    """
    starts = (each["at"] for each in events if each["what"] in ("began", "resumed"))
    started = datetime.fromisoformat(next(starts, history.begun.isoformat()))
    updated = started if live is None else datetime.fromisoformat(live["updated"])
    return (live, updated) if updated >= started else (None, started)


def _map_of(squared: Sequence[Sequence[float]]) -> list[list[float]]:
    from fednet.reporting.scaling import classical_scaling  # numpy: a page that nobody looks at does not load it

    return classical_scaling(squared)


def _left_s(tally: Tally, live: Live | None, *, rounds: int) -> float | None:
    """Return for how long the run goes on if its rounds take as long as they did of late."""
    one = tally.round_s()
    if one is None:
        return None
    under_way_s = (live or {}).get("round_s") or 0.0
    left = rounds - len(tally.rounds)
    return rounded(max(0.0, left * one - min(under_way_s, one)))


def _live(live: Live, *, workers: int) -> dict[str, Any]:
    return {
        **{name: live.get(name) for name in ("phase", "round", "text", "updated", "round_s")},
        "workers_connected": sum(each["connected"] for each in live["workers"]),
        "workers_total": workers,
    }


def _workers(tally: Tally, live: Live | None, *, declined: Sequence[str]) -> list[dict[str, Any]]:
    seen: dict[str, Mapping[str, Any]] = {each["name"]: each for each in live["workers"]} if live else {}
    refusing = dict(each.split(": ", 1) for each in declined)
    names = sorted({*tally.workers, *seen, *refusing})
    nothing = WorkerTally()
    return [_worker(name, tally.workers.get(name, nothing), seen.get(name, {}), refusing.get(name)) for name in names]


def _worker(name: str, tally: WorkerTally, seen: Mapping[str, Any], declined: str | None) -> dict[str, Any]:
    last = tally.last
    waited = None if "arrived_s" not in last else max(0.0, last["arrived_s"] - last["train_s"])
    return {
        "name": name,
        "connected": bool(seen.get("connected")),
        "activity": seen.get("activity", "" if declined is None else "declined the run"),
        "fraction": seen.get("fraction", 0.0),
        "remaining_s": seen.get("remaining_s"),
        "images_per_s": seen.get("images_per_s"),
        "loss": rounded(last.get("loss")) if seen.get("loss") is None else seen["loss"],
        "samples": seen.get("samples", last.get("samples", 0)),
        "device": seen.get("device", ""),
        "bytes": tally.nbytes,
        "last_seen": seen.get("last_seen"),
        "certificate_expires": seen.get("certificate_expires"),
        "selected": tally.selected,
        "rejected": tally.rejected,
        "last_reason": tally.last_reason if declined is None else f"declined the run: {declined}",
        "mean_weight": rounded(tally.mean_weight),
        "train_s": rounded(last.get("train_s")),
        "transfer_s": rounded(waited),
        "epsilon": last.get("epsilon"),
    }
