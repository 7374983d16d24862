"""Which workers hold up round after round, with their times: for the operator to ask, never a reason to drop one."""

from __future__ import annotations

import bisect
import statistics
from collections import Counter
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
    slow_for: Counter[str] = Counter()
    still: set[str] | None = None
    for document in reversed(documents):
        slow = _slow_in(_times(document))
        still = slow if still is None else still & slow
        if not still:
            break
        slow_for.update(still)
    last = documents[-ROUNDS:]
    return [_sentence(name, last, count) for name, count in sorted(slow_for.items()) if count % ROUNDS == 0]


def _times(document: Mapping[str, Any]) -> dict[str, float | None]:
    """Return each worker's seconds until its update was durable; None: it missed the round."""
    found = {each["worker"]: each["arrived_s"] for each in document["updates"] if "arrived_s" in each}
    return found | dict.fromkeys(document.get("absent", ()))


def _slow_in(times: Mapping[str, float | None]) -> set[str]:
    """Return who missed the round or was too slow in it; sorted once, because a round may have thousands of workers."""
    present = sorted(value for value in times.values() if value is not None)
    return {
        name
        for name, own in times.items()
        if own is None or (len(present) > 1 and own > max(LEAST_S, FACTOR * _median_without(own, present)))
    }


def _median_without(own: float, present: Sequence[float]) -> float:
    """Return the median of the sorted numbers but for one that is `own`; there are two or more."""
    place, count = bisect.bisect_left(present, own), len(present) - 1

    def other(index: int) -> float:
        return present[index if index < place else index + 1]

    return (other((count - 1) // 2) + other(count // 2)) / 2


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
