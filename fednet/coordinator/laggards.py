"""Which workers hold up round after round, with their times: for the operator to ask, never a reason to drop one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

ROUNDS = 3  # in a row: twice may be chance
FACTOR = 2.0  # times the median of the others
LEAST_S = 1.0  # rounds of a second are nobody's worry


def laggards(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each worker that was too slow in each of the last `ROUNDS` rounds, by name.

    Too slow: it missed the round, or delivered later than `FACTOR` times the median of the others. `documents` are the
    committed rounds, first to last. A worker is reported again only when it has been slow for another `ROUNDS` rounds.
    """
    last = documents[-ROUNDS:]
    if len(last) < ROUNDS:
        return []
    names = {name for document in last for name in _times(document)}
    sentences = []
    for name in sorted(names):
        slow_for = 0
        for document in reversed(documents):
            if not _is_slow(name, _times(document)):
                break
            slow_for += 1
        if slow_for and slow_for % ROUNDS == 0:
            sentences.append(_sentence(name, last, slow_for))
    return sentences


def _times(document: Mapping[str, Any]) -> dict[str, float | None]:
    """Return each worker's seconds until its update was durable; None: it missed the round."""
    found = {each["worker"]: each["arrived_s"] for each in document["updates"] if "arrived_s" in each}
    return found | dict.fromkeys(document.get("absent", ()))


def _is_slow(name: str, times: Mapping[str, float | None]) -> bool:
    if name not in times:
        return False
    own, others = times[name], [value for other, value in times.items() if other != name and value is not None]
    if own is None:
        return True
    return bool(others) and own > max(LEAST_S, FACTOR * statistics.median(others))


def _sentence(name: str, last: Sequence[Mapping[str, Any]], slow_for: int) -> str:
    own = [_times(document)[name] for document in last]
    others = [
        value for document in last for other, value in _times(document).items() if other != name and value is not None
    ]
    times = ", ".join("missed the round" if value is None else f"{value:.0f} s" for value in own)
    median = f"; the others' median is {statistics.median(others):.0f} s" if others else ""
    return (
        f"{name} was too slow in {slow_for} rounds in a row ({times}{median}). Is its machine or its link at its limit?"
    )
