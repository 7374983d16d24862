"""A run as one HTML page that can be mailed: pictures and style within, no script, nothing fetched.

Its size is bounded: of what grows with workers and rounds it shows the part that says most, and how much it left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fednet.reporting.confusion import accuracy, images_in, macro_f1, recalls
from fednet.reporting.health import BAD, GOOD, WATCH, health_of, plain_reason, standing_apart
from fednet.reporting.model_card import contributions, privacy_of, private_sites
from fednet.reporting.page import Listed, listed, markdown, page
from fednet.reporting.page_text import flat, in_bytes, in_figures, in_percent, in_seconds, in_words, moment, shown
from fednet.reporting.report_rounds import Document, View, confusions, courses, phases, rounds_table
from fednet.reporting.report_verdicts import MOST_WORKERS, Contributions, away, last_round, reasons, verdict_grid
from fednet.reporting.run_view import overview, verdicts, view_of
from fednet.storage.history import RunHistory

_MOST_EVENTS = 50
_MOST_FINDINGS = 30
_SECTIONS = {
    "learning": "Learning",
    "verdicts": "Verdicts",
    "krum": "The last round",
    "workers": "Hospitals",
    "privacy": "Privacy",
    "record": "Record",
    "events": "Events",
    "settings": "Settings",
    "split": "Data",
    "card": "Model card",
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the check of a run's signed record came to."""

    findings: Sequence[str] = ()
    lines: Sequence[str] = ()  # what was checked and is as it was signed
    why_not: str = ""  # it was not checked


@dataclass(frozen=True, kw_only=True)
class RunFound:
    """All that a report is made of."""

    history: RunHistory
    live: Mapping[str, Any] | None  # what its coordinator said last
    events: Sequence[Mapping[str, Any]]  # newest first
    audit: Mapping[str, Any] | None  # the chain's head
    checked: Checked
    cards: Sequence[tuple[Mapping[str, Any], str]]  # of its models: as JSON, as Markdown
    made: datetime


def run_report(found: RunFound, *, is_open: bool = False) -> str:
    """Return the page; `is_open`: what a reader would open is open already, for paper."""
    history = found.history
    documents = history.rounds
    view = overview(history, found.live, now=found.made, events=found.events, audit=found.audit)
    made_of = contributions(documents)
    last = view_of(documents[-1]) if documents else None
    return page(
        "run.html",
        title=f"FedNet: run {view['name']}",
        made=moment(found.made),
        open=" open" if is_open else "",
        name=view["name"],
        meta=_meta(view),
        health=health_of(
            view,
            made_of,
            images=(last["test"] or {}).get("images") if last else None,
            refused=[each["round"] for each in documents if each.get("refused")],
            changed=len(found.checked.findings),
        ),
        tiles=_tiles(view, made_of, found.checked, last),
        sections=_SECTIONS.items(),
        courses=list(courses(view)) if documents else [],
        rounds=rounds_table(documents),
        confusions=confusions(view["classes"], documents[-1], history.round(view["best_round"])) if documents else [],
        grid=verdict_grid(verdicts(history), documents, made_of),
        reasons=reasons(made_of),
        away=away(documents, history.declined),
        krum=None if last is None else last_round(view, last),
        workers=_workers(view),
        phases=phases(view) if documents else None,
        classes=" / ".join(map(in_words, view["classes"])),
        sites=_sites(view["classes"], documents),
        privacy=privacy_of(view["settings"], view["privacy"], private_sites(documents))["spent"],
        record=_record(found.checked),
        audit=found.audit,
        events=_events(view["events"]),
        settings=[(name, shown(value)) for name, value in flat(view["settings"])],
        split=_split(found.cards),
        cards=[(_card_title(card), markdown(text)) for card, text in _different(found.cards)],
    )


def _meta(view: View) -> str:
    settings = view["settings"]
    return (
        f"{settings['model']} at {settings['image_size']} pixels, {settings['workers']} hospitals, {view['recipe']} "
        f"(withstands {view['byzantine']} malicious). Begun {moment(view['begun'])} by {view['software']}. "
        f"Identifier {view['run']}."
    )


def _tiles(
    view: View, made_of: Contributions, checked: Checked, last: Mapping[str, Any] | None
) -> Iterator[tuple[str, str, str]]:
    test = (last or {}).get("test") or {}
    if test:
        yield (
            "Accuracy",
            in_percent(test["accuracy"]),
            f"of {test['images']:,} unseen scans" if "images" in test else "",
        )
        yield "Macro F1", in_figures(test["macro_f1"]), "mean over the classes"
    recall = {name: each["recall"] for name, each in test.get("per_class", {}).items() if each["recall"] is not None}
    if recall:
        lowest = min(recall, key=lambda name: recall[name])
        yield "Lowest recall", in_percent(recall[lowest]), in_words(lowest)
    is_ranked = any(value is not None for value in view["series"]["validation_accuracy"])
    best = f"best by validation: round {view['best_round']}" if is_ranked else ""
    yield "Rounds", f"{view['rounds_done']} of {view['rounds_total']}", best
    if made_of:
        updates = sum(each["updates"] for each in made_of)
        recipe, missed = view["recipe"], updates - sum(each["counted"] for each in made_of)
        apart = len(standing_apart(made_of, recipe=recipe))
        who = "1 worker stands apart" if apart == 1 else f"{apart:,} workers stand apart"
        who = "the rule takes few" if view["takes_few"] else who
        yield "Rejected updates", f"{missed:,} of {updates:,}", who
    if (spent := view["privacy"]) is not None:
        yield "Privacy spent", f"ε {spent['epsilon']:.3g}", f"at delta {spent['delta']:g}, for each hospital"
    yield "Signed record", _record(checked)["word"], ""


def _workers(view: View) -> Listed:
    rows = sorted(view["workers"], key=lambda each: (-each["rejected"], each["name"]))
    return listed(
        [_worker(each) for each in rows[:MOST_WORKERS]],
        most=MOST_WORKERS,
        what="workers",
        which="those that were rejected most often",
        of=len(rows),
    )


def _worker(each: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        each["name"],
        each["selected"],
        each["rejected"],
        in_figures(each["mean_weight"]),
        f"{each['samples']:,}",
        in_figures(each["loss"]),
        in_seconds(each["train_s"]),
        in_seconds(each["transfer_s"]),
        in_bytes(each["bytes"]),
        plain_reason(each["last_reason"]) or each["activity"] or "-",
    )


def _sites(classes: Sequence[str], documents: Sequence[Document]) -> Listed:
    """Return what each site told last of a model, on scans of its own."""
    told = {
        name: (document["round"] - 1, each["confusion"])
        for document in documents
        for name, each in document.get("site_evaluation", {}).items()
    }
    rows = sorted(told.items(), key=lambda site: accuracy(site[1][1]))
    return listed(
        [
            (
                name,
                number,
                f"{images_in(confusion):,}",
                in_percent(accuracy(confusion)),
                in_figures(macro_f1(confusion)),
                _lowest(confusion, classes),
                " / ".join(f"{sum(row):,}" for row in confusion),
            )
            for name, (number, confusion) in rows[:MOST_WORKERS]
        ],
        most=MOST_WORKERS,
        what="sites",
        which="those with the lowest accuracy",
        of=len(rows),
    )


def _lowest(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    known = [(recall, name) for recall, name in zip(recalls(confusion), classes, strict=True) if recall is not None]
    recall, name = min(known)
    return f"{in_percent(recall)} ({in_words(name)})"


def _record(checked: Checked) -> dict[str, Any]:
    """Return what is said of a run's signed record."""
    if checked.why_not:
        return {"level": WATCH, "word": "not checked", "text": f"{checked.why_not}.", "lines": [], "left_out": ""}
    if checked.findings:
        kept = listed(checked.findings, most=_MOST_FINDINGS, what="findings", which="the first ones")
        text = "The run's files are not as its coordinator signed them:"
        return {"level": BAD, "word": "does not verify", "text": text, "lines": kept.rows, "left_out": kept.left_out}
    text = "Every record is signed by the coordinator and seals the one before; what was checked when this was made:"
    return {"level": GOOD, "word": "verifies", "text": text, "lines": checked.lines, "left_out": ""}


def _events(events: Sequence[Mapping[str, Any]]) -> Listed:
    rows = [(moment(each["at"]), each["what"], plain_reason(each["detail"])) for each in events[:_MOST_EVENTS]]
    return listed(rows, most=_MOST_EVENTS, what="events", which="the newest", of=len(events))


def _split(cards: Sequence[tuple[Mapping[str, Any], str]]) -> dict[str, Any] | None:
    """Return the split that the coordinator's scans come from; None where no card tells of one."""
    found = next((card["data"]["split"] for card, _ in cards if card["data"]["split"]), None)
    if found is None:
        return None
    arguments = ", ".join(f"{in_words(name)} {shown(value)}" for name, value in found["arguments"].items())
    left_out = {f"left out, {reason}": count for reason, count in found["left_out"].items()}
    rows = [(side, *(f"{count:,}" for count in counts), f"{sum(counts):,}") for side, counts in found["sites"].items()]
    return {
        "text": f"The split of the coordinator's data: {arguments}. {found['test_set']}",
        "columns": [("side", ""), *((in_words(name), "number") for name in found["classes"]), ("all", "number")],
        "sides": listed(rows, most=MOST_WORKERS, what="sides", which="the first ones"),
        "duplicates": [(in_words(name), f"{count:,}") for name, count in (found["duplicates"] | left_out).items()],
    }


def _different(cards: Sequence[tuple[Mapping[str, Any], str]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield one card of each model: two files may hold the same."""
    seen = set()
    for card, text in cards:
        if card["model"]["sha256"] not in seen:
            seen.add(card["model"]["sha256"])
            yield card, text


def _card_title(card: Mapping[str, Any]) -> str:
    model = card["model"]
    also = f", the same model as {model['same_model_as']}" if model["same_model_as"] else ""
    return f"{model['file']}: round {model['round']}, {model['kind']}{also}"
