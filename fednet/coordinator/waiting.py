"""For whom a run waits and why, in words."""

from __future__ import annotations

from collections.abc import Sequence

from fednet.config import RunSettings
from fednet.coordinator.declining import declined_text
from fednet.coordinator.desk import Desk
from fednet.coordinator.round import Phase, Rounds

_MOST_NAMED = 8  # workers in one line


def waiting_text(rounds: Rounds, settings: RunSettings, desk: Desk) -> str:
    """Say for whom the run waits and why: "waiting for 1 of 4: client3 is training, 62 %, about 40 s left".

    And who has declined what.
    """
    declined = declined_text(desk.run_declined_by | rounds.declined)
    return "; ".join([_waiting_text(rounds, settings, desk), *([declined] if declined else [])])


def _waiting_text(rounds: Rounds, settings: RunSettings, desk: Desk) -> str:
    number = rounds.round_number
    missing = rounds.missing(now=desk.now())
    if rounds.phase is not Phase.WAITING:
        if not missing or desk.offer is None:
            return f"round {number} of {settings.rounds}: {rounds.phase.value}"
        views = [desk.views[worker].sentence() for worker in missing if worker in desk.views]
        total = len(missing) + len(rounds.delivered)
        return f"round {number} of {settings.rounds}, waiting for {len(missing)} of {total}: {some(views, '; ')}"
    more = settings.workers - len(rounds.connected)
    joined = f"; here: {some(sorted(rounds.connected), ', ')}" if rounds.connected else ""
    return f"round {number} of {settings.rounds}, waiting for {more} more of {settings.workers} workers{joined}"


def some(texts: Sequence[str], separator: str) -> str:
    """Return the first few texts in one line, and how many more there are."""
    more = [f"and {len(texts) - _MOST_NAMED} more"] if len(texts) > _MOST_NAMED else []
    return separator.join([*texts[:_MOST_NAMED], *more])
