"""What a report shows of a run's course: scores by round, confusion, who counted, what the time went into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fednet.reporting import report_pictures
from fednet.reporting.page import Listed, drawing, listed
from fednet.reporting.page_text import in_figures, in_percent, in_seconds, in_words

MOST_ROUNDS = 50  # rows of a table: of more nobody reads them, and `runs export` has them all

View = Mapping[str, Any]
"""`fednet.reporting.run_view.overview`."""
Document = Mapping[str, Any]
"""A committed round as history.json has it."""
Series = Mapping[str, Sequence[float | None]]


def courses(view: View) -> Iterator[dict[str, Any]]:
    """Yield the pictures of a run's scores, as far as any are known, and of how many counted, of one round or more."""
    series, rounds = view["series"], view["series"]["round"]
    found = {
        "accuracy": series["accuracy"],
        "macro F1": series["macro_f1"],
        "validation accuracy": series["validation_accuracy"],
    }
    text = "On the test set, which chooses nothing, and on the validation set"
    yield from _course("scores", "Accuracy and macro F1", rounds, found, label="share", text=text)
    recall = {in_words(name): values for name, values in series["recall"].items()}
    text = "The share of a class's test scans that the model finds"
    yield from _course("recall", "Recall of each class", rounds, recall, label="recall", text=text)
    loss = {"loss": series["loss"]}
    text = "Cross-entropy on the test set; lower is better"
    yield from _course("loss", "Loss", rounds, loss, label="loss", text=text, are_shares=False)
    yield picture(
        "Updates of each round",
        "How many counted, how many were rejected, and how many workers sent none in time.",
        report_pictures.stacks(
            "counts",
            rounds,
            {name: series[name] for name in ("selected", "rejected", "absent")},
            label="workers",
            colours=("good", "bad", "away"),
        ),
    )


def phases(view: View) -> dict[str, Any]:
    """Return what the rounds' time went into: a picture, and a table's rows."""
    seconds: Series = view["series"]["seconds"]
    sums = {name: sum(value or 0.0 for value in values) for name, values in seconds.items()}
    count, whole = len(view["series"]["round"]), sum(sums.values()) or 1.0
    return {
        "picture": picture(
            "Seconds of each round",
            "Training is the slowest worker's; transfer is what models and updates took beside that.",
            report_pictures.stacks("seconds", view["series"]["round"], seconds, label="seconds"),
        ),
        "rows": [
            (name, in_seconds(each / count), in_seconds(each), in_percent(each / whole)) for name, each in sums.items()
        ],
    }


def picture(title: str, text: str, svg: str) -> dict[str, Any]:
    """Return a picture with its title and the text that says it in words."""
    return {"title": title, "text": text, "svg": drawing(svg)}


def rounds_table(documents: Sequence[Document]) -> Listed:
    """Return the last rounds, a row each."""
    rows = [_row(document) for document in documents[-MOST_ROUNDS:]]
    return listed(rows, most=MOST_ROUNDS, what="rounds", which="the last ones", of=len(documents))


def confusions(classes: Sequence[str], last: Document, best: Document) -> list[dict[str, Any]]:
    """Return the confusion on the test set after the last round, and after the best one by validation."""
    is_same = last["round"] == best["round"]
    asked = [(f"After round {last['round']}, the last" + (" and the best by validation" if is_same else ""), last)]
    asked += [] if is_same else [(f"After round {best['round']}, the best by validation", best)]
    return [
        {"title": title, **_confusion(classes, document["test"]["confusion"]), "by_class": _by_class(document["test"])}
        for title, document in asked
        if (document.get("test") or {}).get("confusion")
    ]


def some(names: Sequence[str], most: int = 4) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) or "-"


def _course(
    name: str, title: str, rounds: Sequence[int], series: Series, *, label: str, text: str, are_shares: bool = True
) -> Iterator[dict[str, Any]]:
    known = {each: values for each, values in series.items() if any(value is not None for value in values)}
    if not known:
        return
    last = ", ".join(f"{each} {in_figures(_last(values))}" for each, values in known.items())
    svg = report_pictures.courses(name, rounds, known, label=label, are_shares=are_shares)
    yield picture(title, f"{text}. At the end: {last}.", svg)


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _row(document: Document) -> tuple[Any, ...]:
    test, validation, updates = document.get("test") or {}, document.get("validation") or {}, document["updates"]
    missed = [each["worker"] for each in updates if not each["selected"]]
    return (
        document["round"],
        *(in_figures(test.get(name)) for name in ("accuracy", "macro_f1", "loss")),
        in_figures(validation.get("accuracy")),
        f"{len(updates) - len(missed)} of {len(updates)}",
        some(missed) + ("; the guard refused the step" if document.get("refused") else ""),
        in_seconds((document.get("seconds") or {}).get("round")),
    )


def _confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> dict[str, Any]:
    names = [in_words(name) for name in classes]
    rows = [[(count, round(100 * count / max(sum(row), 1))) for count in row] for row in counts]
    return {"classes": names, "rows": list(zip(names, rows, strict=True))}


def _by_class(test: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            in_words(name),
            each.get("support", "-"),
            *(in_figures(each.get(score)) for score in ("recall", "precision", "f1", "auc")),
        )
        for name, each in test.get("per_class", {}).items()
    ]
