"""Whether a run is well and who was rejected, in a few sentences that a newcomer understands. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fednet.reporting.page_text import in_percent

GOOD, WATCH, BAD = "good", "watch", "bad"

_FELL = 0.05  # validation accuracy below the best round's from which the last model is worth a word
_MOST_NAMED = 3  # workers in the sentences
_LONGEST = 300  # characters of a reason
_LATELY = 3  # rounds
_MANY_ABSENT = 0.1  # of all workers: from there on the model learns of too few

View = Mapping[str, Any]
"""`fednet.reporting.run_view.overview`."""


@dataclass(frozen=True, kw_only=True)
class Health:
    """How a run does: `level` is good, watch (somebody should look) or bad."""

    level: str
    title: str
    sentences: tuple[str, ...]


def health_of(
    view: View, contributions: Sequence[Mapping[str, Any]], *, images: int | None, refused: Sequence[int], changed: int
) -> Health:
    """Return how the run in `view` does.

    `contributions`: of `fednet.reporting.model_card.contributions`; `images`: scans in the test set, None where that is
    not known; `refused`: rounds whose step the guard refused; `changed`: how much is not as the coordinator signed it.
    """
    apart = standing_apart(contributions, recipe=view["recipe"])
    worries = [*_worries(view, len(apart)), *_refusals(refused)]
    level, state = _state(view, changed=changed, has_worries=bool(worries))
    return Health(
        level=level,
        title=f"{state}. {_learned(view, images=images)}",
        sentences=(*_rejected(contributions, apart, recipe=view["recipe"]), *worries),
    )


def takes_few(recipe: str, *, updates: int, counted: int) -> bool:
    """Return whether the rule is one that takes few updates a round, and at most half of all counted.

    Krum takes one, Multi-Krum with `m` so many: whoever it leaves out may be as honest as the others.
    """
    rule = recipe.rpartition("+")[2]
    return (rule == "krum" or rule.startswith("multikrum:")) and 2 * counted <= updates


def standing_apart(contributions: Sequence[Mapping[str, Any]], *, recipe: str) -> list[Mapping[str, Any]]:
    """Return the workers that did not count in at least half of the rounds that they took part in, the worst first.

    One rejection among several rounds is none: a robust rule leaves out the farthest even where all are honest. Of a
    rule that takes few nobody is named.
    """
    updates, counted = (sum(each[what] for each in contributions) for what in ("updates", "counted"))
    if takes_few(recipe, updates=updates, counted=counted):
        return []
    found = [each for each in contributions if _missed(each) >= max(min(2, each["updates"]), each["updates"] / 2)]
    return sorted(found, key=lambda each: (-_missed(each), each["site"]))


def _missed(contribution: Mapping[str, Any]) -> int:
    return int(contribution["updates"] - contribution["counted"])


def _state(view: View, *, changed: int, has_worries: bool) -> tuple[str, str]:
    is_whole = view["rounds_done"] == view["rounds_total"]
    done = (
        f"{view['rounds_done']} of {view['rounds_total']} rounds"
        if not is_whole
        else f"all {view['rounds_total']} rounds"
    )
    if changed:
        what = "1 thing is" if changed == 1 else f"{changed} things are"
        return BAD, f"Do not rely on this run: {what} not as its coordinator signed it"
    if view["stalled_s"] is not None:
        return (
            BAD,
            f"No sign of life for {view['stalled_s']:.0f} s, after {done}: the coordinator hangs, or its disk does",
        )
    if view["standing"] == "stopped":
        when = f"after {done}" if view["rounds_done"] else "before its first round was over"
        return WATCH, f"Stopped {when} ({view['ending']})"
    if view["standing"] == "running":
        return (
            (WATCH, f"Running, {done} done; somebody should look")
            if has_worries
            else (GOOD, f"Running well, {done} done")
        )
    if has_worries:
        return WATCH, f"Finished after {done}; somebody should look"
    return GOOD, f"Finished and healthy, after {done}"


def _learned(view: View, *, images: int | None) -> str:
    if not view["rounds_done"]:
        return "No round is committed yet."
    accuracy = view["series"]["accuracy"][-1]
    if accuracy is None:
        return "There is no test set, so nothing is known of how good the model is."
    return f"The model gets {in_percent(accuracy)} of {_scans(images)} right."


def _scans(images: int | None) -> str:
    return "the unseen scans" if images is None else f"{images:,} unseen scans"


def _rejected(
    contributions: Sequence[Mapping[str, Any]], apart: Sequence[Mapping[str, Any]], *, recipe: str
) -> Iterator[str]:
    updates, missed = sum(each["updates"] for each in contributions), sum(map(_missed, contributions))
    if updates and takes_few(recipe, updates=updates, counted=updates - missed):
        taken = f"{updates - missed:,} of {updates:,}"
        yield f"{recipe} takes few updates a round, {taken} in all: whoever it left out may be honest."
        return
    for each in apart[:_MOST_NAMED]:
        last = max(each["not_counted"], key=lambda reason: reason["last_round"])
        often = f"{_missed(each)} of {each['updates']} rounds"
        yield f"{each['site']} was rejected in {often}: {plain_reason(last['reason'])}."
    if len(apart) > _MOST_NAMED:
        yield f"{len(apart) - _MOST_NAMED:,} more workers were rejected in at least half of their rounds."
    others = missed - sum(map(_missed, apart))
    if not updates:
        return
    if not missed:
        yield "Nobody was rejected."
    elif others:
        sites = sum(bool(_missed(each)) for each in contributions) - len(apart)
        start = "Of all others" if apart else "Nobody stands out:"
        which = (
            f"{others:,} of {updates:,} updates, of {sites:,} workers,"
            if sites > 1
            else f"{others:,} of {updates:,} updates"
        )
        yield f"{start} {which} did not count: a robust rule leaves out the farthest even where all are honest."
    else:
        yield "All other updates counted."


def plain_reason(reason: str) -> str:
    """Return why an update did not count, without the word that says so and no longer than a few lines."""
    text = reason.removeprefix("rejected: ").strip().rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _worries(view: View, apart: int) -> Iterator[str]:
    series, tolerated = view["series"], view["byzantine"]
    if apart > tolerated and view["rounds_done"]:
        how = f"at most {tolerated}" if tolerated else "none"
        yield f"{apart:,} workers stand apart, and the rule is set to withstand {how}: the model may be spoilt."
    losses = [value for value in series["loss"] if value is not None]
    if losses and not math.isfinite(losses[-1]):
        yield "The last model's loss is no finite number: training went wrong."
    yield from _fallen(series, view["best_round"])
    absent = max(series["absent"][-_LATELY:], default=0)
    if absent > _MANY_ABSENT * view["settings"]["workers"]:
        who = "1 worker" if absent == 1 else f"{absent:,} workers"
        yield f"Of late {who} sent no update in time: see who, under Verdicts."


def _fallen(series: Mapping[str, Any], best: int | None) -> Iterator[str]:
    """Say so where the last model is clearly worse than the best one, by validation: the test set chooses nothing."""
    if best is None:
        return
    last, was = series["validation_accuracy"][-1], series["validation_accuracy"][series["round"].index(best)]
    if last is not None and was is not None and last < was - _FELL:
        yield (
            f"The last model got {in_percent(last)} of the validation scans right, that of round {best} "
            f"{in_percent(was)}: best.pth is the one to use."
        )


def _refusals(refused: Sequence[int]) -> Iterator[str]:
    if refused:
        yield f"The guard refused {len(refused)} steps, the last in round {refused[-1]}: the model of before was kept."
