"""A hospital's own report as one HTML page: what left it, its losses, what became of its updates, privacy spent.

Made of what the hospital itself wrote down (`cli.py worker inspect --json`): the coordinator is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from fednet.reporting import report_pictures
from fednet.reporting.health import BAD, GOOD, WATCH, Health, plain_reason
from fednet.reporting.page import left_out, listed, page
from fednet.reporting.page_text import NOTHING, in_bytes, in_figures, in_seconds, moment
from fednet.reporting.report_rounds import MOST_ROUNDS, picture

_MOST_RUNS = 10
_LETTERS = {"selected": ("s", "s"), "rejected": ("r", "r"), "withdrawn": ("w", "a")}
_UNKNOWN = ("?", "none")
_KEY = [
    ("s", "s", "counted"),
    ("r", "r", "rejected"),
    ("w", "a", "the coordinator gave it up"),
    ("?", "none", "not known yet"),
]

Update = Mapping[str, Any]
"""`fednet.worker.disclosure.SentUpdate`, as plain JSON types."""
Run = Mapping[str, Any]
"""`fednet.worker.disclosure.RunDisclosed`, likewise."""


def worker_report(found: Mapping[str, Any], *, name: str, made: datetime, is_open: bool = False) -> str:
    """Return the page of what `worker inspect --json` found; `is_open`: everything is open already, for paper."""
    runs = list(reversed(found["runs"]))
    sent = (update for run in found["runs"] for update in run["updates"])
    updates = sorted(sent, key=lambda each: each["at_s"] or 0.0)
    are_checked = found["signatures_checked"]
    return page(
        "worker.html",
        title=f"FedNet: {name}",
        made=moment(made),
        open=" open" if is_open else "",
        name=name,
        meta=f"By its own log, {found['log']}: nobody was asked.",
        health=_health(found, updates),
        tiles=_tiles(found, updates),
        runs=listed(
            [_run(run, number, are_checked=are_checked) for number, run in enumerate(runs[:_MOST_RUNS], start=1)],
            most=_MOST_RUNS,
            what="runs",
            which="the last ones",
            of=len(runs),
        ),
        privacy=_privacy(found["privacy"]),
    )


def _health(found: Mapping[str, Any], updates: Sequence[Update]) -> Health:
    rejected = [each for each in updates if each["verdict"] == "rejected"]
    judged = sum(each["verdict"] in ("selected", "rejected") for each in updates)
    sentences = [f"Run {run['run']}: {run['chain']['finding']}." for run in found["runs"] if run["chain"]["finding"]]
    if sentences:
        return Health(
            level=BAD, title="What the coordinator showed this hospital does not hold", sentences=tuple(sentences)
        )
    if not updates:
        return Health(level=GOOD, title="Nothing has left this hospital.", sentences=())
    size = "" if in_bytes(found["bytes"]) == NOTHING else f", {in_bytes(found['bytes'])} in all"
    sent = f"{_count(len(updates), 'update')} of {_count(len(found['runs']), 'run')} have left this hospital{size}."
    if not rejected:
        what = f"All {judged:,} that were judged counted." if judged else "None of them was judged yet."
        return Health(level=GOOD, title=sent, sentences=(what,))
    last = rejected[-1]
    missed = f"{len(rejected):,} of {judged:,} updates that were judged did not count"
    why = f"Why the last of these did not, of round {last['round']}: {plain_reason(last['reason'])}."
    if 2 * len(rejected) < max(judged, 2):
        return Health(level=GOOD, title=sent, sentences=(f"{missed}.", why))
    return Health(level=WATCH, title=f"Somebody should look: {missed}.", sentences=(why, sent))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _tiles(found: Mapping[str, Any], updates: Sequence[Update]) -> Iterator[tuple[str, str, str]]:
    yield "Updates sent", f"{len(updates):,}", f"in {_count(len(found['runs']), 'run')}"
    yield "Bytes sent", in_bytes(found["bytes"]), "what came twice after a broken link counts once"
    for verdict, title in (("selected", "Counted"), ("rejected", "Rejected")):
        yield title, f"{sum(each['verdict'] == verdict for each in updates):,}", ""
    spent = found["privacy"]
    yield (
        "Privacy spent",
        "no ledger" if spent is None else f"ε {spent['epsilon']:.3g}",
        "" if spent is None else f"of {spent['budget']:g}",
    )
    yield (
        "Signed record",
        "holds" if found["verifies"] else "does not hold",
        "" if found["signatures_checked"] else "signatures not checked",
    )


def _run(run: Run, number: int, *, are_checked: bool) -> dict[str, Any]:
    updates = sorted(run["updates"], key=lambda each: each["round"])
    kept = updates[-MOST_ROUNDS:]
    missed = [each for each in reversed(updates) if each["verdict"] == "rejected"]
    name = f", as {run['worker']}" if run["worker"] else ""
    return {
        "title": f"Run {run['run']}",
        "text": f"{_count(len(updates), 'update')}{name}, {in_bytes(run['bytes'])}.",
        "grid": _grid(kept, of=len(updates)),
        "pictures": list(_pictures(updates, number)),
        "reasons": listed(
            [(each["round"], plain_reason(each["reason"])) for each in missed[:MOST_ROUNDS]],
            most=MOST_ROUNDS,
            what="reasons",
            which="the last ones",
            of=len(missed),
        ),
        "updates": listed(
            [_row(each) for each in kept], most=MOST_ROUNDS, what="updates", which="the last ones", of=len(updates)
        ),
        "chain": _chain(run["chain"], are_checked=are_checked),
    }


def _grid(updates: Sequence[Update], *, of: int) -> dict[str, Any]:
    cells = [(*_LETTERS.get(each["verdict"], _UNKNOWN), plain_reason(each["reason"])) for each in updates]
    letters = {letter for letter, *_ in cells}
    text = left_out(len(updates), of, what="rounds", which="the last ones")
    return {
        "corner": "round",
        "rounds": [each["round"] for each in updates],
        "key": [each for each in _KEY if each[0] in letters],
        "rows": [("verdict", cells)] if cells else [],
        "left_out": [text] if text else [],
    }


def _pictures(updates: Sequence[Update], number: int) -> Iterator[dict[str, Any]]:
    by_round = {each["round"]: each for each in updates}  # of one that was made again, the last
    rounds = list(by_round)
    losses = [None if each["epsilon"] else each["loss"] for each in by_round.values()]
    if any(loss is not None for loss in losses):
        svg = report_pictures.courses(f"loss {number}", rounds, {"loss": losses}, label="loss", are_shares=False)
        yield picture("Loss of local training", "As it was told to the coordinator with each update.", svg)
    sizes = [(each["nbytes"] or 0) / 2**20 for each in by_round.values()]
    if any(sizes):
        svg = report_pictures.stacks(f"bytes {number}", rounds, {"sent": sizes}, label="MiB")
        yield picture("Size of each update", "In MiB, as it travelled.", svg)


def _row(update: Update) -> tuple[Any, ...]:
    told = update["confusion"]
    return (
        update["round"],
        NOTHING if update["at_s"] is None else moment(update["at_s"]),
        NOTHING if update["nbytes"] is None else f"{update['nbytes']:,}",
        NOTHING if update["samples"] is None else f"{update['samples']:,}",
        in_seconds(update["train_s"]),
        "not told" if update["epsilon"] else in_figures(update["loss"]),
        f"{len(told)}, of {sum(told):,} scans" if told else "none",
        _fate(update),
        update["sha256"],
    )


def _fate(update: Update) -> str:
    if update["verdict"] == "selected":
        return "counted" if update["weight"] is None else f"counted, weight {update['weight']:.2f}"
    if update["verdict"] in ("rejected", "withdrawn"):
        return {"rejected": "rejected", "withdrawn": "the coordinator gave it up"}[update["verdict"]]
    return "arrived, not judged yet" if update["is_acknowledged"] else "not acknowledged: some of it may have arrived"


def _chain(chain: Mapping[str, Any], *, are_checked: bool) -> dict[str, Any]:
    if chain["finding"]:
        return {"level": BAD, "word": "does not hold", "text": f"{chain['finding']}.", "head": chain["head"]}
    if chain["head"] is None:
        text = "No record of this run was shown to this hospital yet."
        return {"level": WATCH, "word": "none shown", "text": text, "head": None}
    how = "signatures included" if are_checked else "but for the signatures: there is no authority's certificate here"
    text = f"The run's signed record holds up to round {chain['round']}, {how}."
    return {"level": GOOD if are_checked else WATCH, "word": "holds", "text": text, "head": chain["head"]}


def _privacy(spent: Mapping[str, Any] | None) -> str:
    if spent is None:
        return "This hospital keeps no ledger of differential privacy: nothing bounds what its updates tell of a scan."
    return (
        f"Epsilon {spent['epsilon']:.3f} of {spent['budget']:g} at delta {spent['delta']:g}, in {spent['rounds']:,} "
        f"trainings of {_count(spent['runs'], 'run')}. It bounds what all updates together tell of whether one scan "
        "was among the hospital's, not of a patient with several."
    )
