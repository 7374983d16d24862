"""What a report shows of who counted: workers by rounds, the reasons, and how the last round was judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fednet.reporting import report_pictures
from fednet.reporting.health import plain_reason
from fednet.reporting.page import Listed, left_out, listed
from fednet.reporting.report_rounds import Document, View, picture

MOST_WORKERS = 30  # rows of a table or grid: what a page can show and a person take in
_MOST_COLUMNS = 40  # rounds of the grid: as many as stand beside each other on a screen
_MOST_POINTS = 1000  # of the map

_KEY = {
    "s": ("s", "counted"),
    "r": ("r", "rejected"),
    "q": ("q", "quarantined after many rejections"),
    "a": ("a", "absent: no update in time"),
    "d": ("d", "declined by the hospital"),
    "x": ("x", "revoked"),
    "-": ("none", "not asked"),
}
Contributions = Sequence[Mapping[str, Any]]
"""`fednet.reporting.model_card.contributions`."""


def verdict_grid(verdicts: Mapping[str, Any], documents: Sequence[Document], made_of: Contributions) -> dict[str, Any]:
    """Return workers by rounds, those first that did not count most often.

    `verdicts`: `fednet.reporting.run_view.verdicts`.
    """
    missed = {each["site"]: each["updates"] - each["counted"] for each in made_of}
    pairs = zip(verdicts["workers"], verdicts["grid"], strict=True)
    lines = sorted(pairs, key=lambda line: (-missed.get(line[0], 0), line[0]))
    kept, rounds = lines[:MOST_WORKERS], verdicts["rounds"][-_MOST_COLUMNS:]
    why = _reasons_by_cell(documents[-_MOST_COLUMNS:], {name for name, _ in kept})
    rows = [
        (
            name,
            [
                (letter, _KEY[letter][0], why.get((name, number), ""))
                for number, letter in zip(rounds, letters[-_MOST_COLUMNS:], strict=True)
            ],
        )
        for name, letters in kept
    ]
    used = {letter for _, cells in rows for letter, *_ in cells}
    cuts = (
        left_out(len(kept), len(lines), what="workers", which="those that did not count most often"),
        left_out(len(rounds), len(verdicts["rounds"]), what="rounds", which="the last ones"),
    )
    return {
        "corner": "worker",
        "rounds": rounds,
        "key": [(letter, *each) for letter, each in _KEY.items() if letter in used],
        "rows": rows,
        "left_out": [text for text in cuts if text],
    }


def reasons(made_of: Contributions) -> Listed:
    """Return why updates did not count; reasons that differ in their figures only are one."""
    found = [(site, each) for site in made_of for each in site["not_counted"]]
    found.sort(key=lambda pair: (-pair[1]["updates"], pair[0]["site"]))
    rows = [
        (
            site["site"],
            f"{each['updates']} of {site['updates']}",
            _span(each["first_round"], each["last_round"]),
            plain_reason(each["reason"]),
        )
        for site, each in found[:MOST_WORKERS]
    ]
    return listed(rows, most=MOST_WORKERS, what="reasons", which="the most frequent", of=len(found))


def away(documents: Sequence[Document], declined: Sequence[str]) -> Listed:
    """Return who sent nothing, and why; `declined`: `client2: reason`, of who declined the run as a whole."""
    found: dict[tuple[str, str], tuple[int, int, str]] = {}
    for document in documents:
        for name, what, reason in _away_in(document):
            count = found[name, what][0] if (name, what) in found else 0
            found[name, what] = count + 1, document["round"], plain_reason(reason)
    rows = [(name, what, *told) for (name, what), told in found.items()]
    rows.sort(key=lambda row: (-row[2], row[0]))
    whole = [(name, "declined the run", "-", "-", why) for name, _, why in (each.partition(": ") for each in declined)]
    return listed([*whole, *rows], most=MOST_WORKERS, what="entries", which="the most frequent")


def last_round(view: View, last: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a round was judged; `last`: `fednet.reporting.run_view.view_of`."""
    updates, scored = last["updates"], last["scored"]
    counted = sum(each["selected"] for each in updates)
    how = f"Round {last['round']}, by {view['recipe']} (f = {last['byzantine']})"
    notes = [last["note"]] if last["note"] else []
    notes += [f"The guard refused this round's step: {last['refused']['reason']}"] if last["refused"] else []
    if last["distances_left_out"]:
        notes.append(f"The distances of {last['distances_left_out']:,} updates are not drawn: nobody would see a cell.")
    if last["map"] and len(scored) > _MOST_POINTS:
        notes.append(f"The map shows {_MOST_POINTS:,} of {len(scored):,} updates: those that did not count first.")
    text = f"{how}: {counted} of {len(updates)} updates counted."
    return {"text": text, "pictures": list(_round_pictures(last)), "notes": notes}


def _round_pictures(last: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    by_worker = {each["worker"]: each for each in last["updates"]}
    scored = [name for name in last["scored"] if name in by_worker]
    selected = [bool(by_worker[name]["selected"]) for name in scored]
    scores = {name: by_worker[name]["score"] for name in scored if by_worker[name].get("score") is not None}
    if scores:
        chosen = [bool(by_worker[name]["selected"]) for name in scores]
        yield picture(
            "Scores, with the cut",
            "Lower is closer to the others; who lies beyond the cut does not count.",
            report_pictures.score_bars("scores", scores, chosen, cut=last["cut"]),
        )
    if last["map"] and len(scored) == len(last["map"]) > 1:
        order = sorted(range(len(scored)), key=lambda index: selected[index])[:_MOST_POINTS]
        yield picture(
            "Map of the updates",
            "Close points are alike; who sends something else stands apart.",
            report_pictures.update_map(
                "map",
                [last["map"][index] for index in order],
                [scored[index] for index in order],
                [selected[index] for index in order],
            ),
        )
    told = [by_worker[name] for name in scored if by_worker[name].get("cosine") is not None]
    if told:
        yield picture(
            "Size and direction",
            "Honest updates are of like size and point the same way, above the dotted line.",
            report_pictures.sizes_and_directions(
                "directions",
                *([each[name] for each in told[:_MOST_POINTS]] for name in ("norm", "cosine", "worker", "selected")),
            ),
        )
    if last["distances"] and len(scored) > 1:
        yield picture(
            "Distance of every two updates",
            "Dark is close, bright is far: the row of an outlier is bright throughout.",
            report_pictures.distance_map("distances", last["distances"], scored),
        )


def _reasons_by_cell(documents: Sequence[Document], workers: set[str]) -> dict[tuple[str, int], str]:
    found = {}
    for document in documents:
        missed = [(each["worker"], "", each["reason"]) for each in document["updates"] if not each["selected"]]
        for name, _, reason in (*missed, *_away_in(document)):
            if name in workers:
                found[name, document["round"]] = plain_reason(reason)
    return found


def _away_in(document: Document) -> Iterator[tuple[str, str, str]]:
    for name in document.get("absent", ()):
        yield name, "absent", "no update of it was in time"
    for what in ("declined", "revoked"):
        for name, reason in document.get(what, {}).items():
            yield name, what, reason


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
