"""A model card as Markdown (CommonMark with GitHub's tables), for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fednet.reporting.confusion import recalls

_MARKUP = re.compile(r"[\\`*_\[\]<>|#~&!@$]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "loss": "loss (cross-entropy)",
}
_WORTH = {"ece": "expected calibration error", "brier": "Brier score", "loss": "cross-entropy"}
_OF_CLASS = ("recall", "precision", "f1", "auc")


def escaped(text: object) -> str:
    """Return any text as Markdown that shows it and nothing more: no markup, no link, no second line."""
    plain = "".join(char if char.isprintable() else " " for char in str(text))
    return _MARKUP.sub(r"\\\g<0>", plain)


def card_text(card: Mapping[str, Any]) -> str:
    """Return a card (`model_card`) as Markdown."""
    parts = [
        ("", _opening(card)),
        ("Intended use", _use(card["intended_use"])),
        ("Training data", _data(card["data"])),
        ("Training", _training(card)),
        ("Test", _test(card)),
        ("Calibration", _calibration(card["calibration"])),
        ("Privacy", [escaped(card["privacy"]["spent"])]),
        ("Limits", [f"- {escaped(each)}" for each in card["intended_use"]["limits"]]),
    ]
    return (
        "\n".join(line for title, lines in parts for line in ([f"\n## {title}\n"] if title else []) + [*lines]) + "\n"
    )


def _opening(card: Mapping[str, Any]) -> Iterator[str]:
    model, run = card["model"], card["run"]
    yield f"# Model card of {escaped(model['file'])}\n"
    yield f"- round {model['round']}: {escaped(model['kind'])}"
    if model["same_model_as"]:
        yield f"- the same model as {escaped(model['same_model_as'])}"
    yield f"- {escaped(model['architecture'])} for images of {model['image_size']} x {model['image_size']} pixels"
    yield f"- SHA-256 of its tensors: `{_code(model['sha256'])}`"
    if run["id"]:
        yield f"- run {escaped(run['id'])}, begun {run['begun'] or 'at an unknown time'}, last round at {run['ended']}"
    if run["last_record"]:
        yield f"- last record of its signed chain: `{_code(run['last_record'])}`"
    yield f"- made with {', '.join(f'{escaped(name)} {escaped(version)}' for name, version in run['software'].items())}"


def _use(use: Mapping[str, Any]) -> Iterator[str]:
    yield f"{escaped(use['use'])}\n"
    yield f"- classes: {', '.join(escaped(name) for name in use['classes'])}"
    yield f"- input: {escaped(use['input'])}"


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    yield "Scans of each site" + (", as it claims:" if data["are_claims"] else ":") + "\n"
    classes = list(data["sites"][0].get("classes", ())) if data["sites"] else []
    yield from _table(
        ("site", *classes, "scans"),
        [(each["site"], *(each["classes"][name] for name in classes), each["samples"]) for each in data["sites"]],
    )
    if data["server"]:
        yield "\nScans of the coordinator's own, by class:\n"
        classes = list(next(iter(data["server"].values())))
        yield from _table(
            ("set", *classes, "all"),
            [(part, *counts.values(), sum(counts.values())) for part, counts in data["server"].items()],
        )
    if data["split"] is not None:
        yield from _split(data["split"])


def _split(split: Mapping[str, Any]) -> Iterator[str]:
    arguments = ", ".join(f"{escaped(name)} {_value(value)}" for name, value in split["arguments"].items())
    yield f"\nThe split that the coordinator's scans come from: {arguments}. {escaped(split['test_set'])}\n"
    yield from _table(("side", *split["classes"]), [(side, *counts) for side, counts in split["sites"].items()])
    yield ""
    for name, count in split["duplicates"].items():
        yield f"- {escaped(name.replace('_', ' '))}: {count}"
    for reason, count in split["left_out"].items():
        yield f"- left out: {count} ({escaped(reason)})"


def _training(card: Mapping[str, Any]) -> Iterator[str]:
    training = card["training"]
    refused = f", of which the steps of {_value(training['refused'])} were refused" if training["refused"] else ""
    yield f"{training['rounds']} rounds{refused}, with these settings:\n"
    yield from _table(("setting", "value"), _flat(training["settings"]))
    if not card["contributions"]:
        return
    yield "\nWhat each site contributed to them:\n"
    yield from _table(
        ("site", "updates", "counted", "mean weight"),
        [
            (each["site"], each["updates"], each["counted"], _figure(each["mean_weight"]))
            for each in card["contributions"]
        ],
    )
    lines = [_not_counted(site, each) for site in card["contributions"] for each in site["not_counted"]]
    yield from ["", *lines] if lines else []


def _not_counted(site: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    return (
        f"- {escaped(site['site'])}: {found['updates']} of {site['updates']} updates did not count (rounds "
        f"{found['first_round']} to {found['last_round']}); of the last it was said: {escaped(found['reason'])}"
    )


def _test(card: Mapping[str, Any]) -> Iterator[str]:
    test, bounds = card["evaluation"]["test"], card["evaluation"]["intervals"]
    if not test:
        yield "It was not tested."
        return
    yield f"On {test.get('images', 'an unknown number of')} scans of the coordinator's own, which choose nothing.\n"
    rows = [
        (title, _figure(test[name]), _interval(bounds.get(name))) for name, title in _METRICS.items() if name in test
    ]
    if bounds.get("sensitivity"):
        name = f"sensitivity for any tumour at specificity {bounds['specificity']:g}, by the test set's own ROC curve"
        rows.append((name, _figure(bounds["sensitivity"]["value"]), _interval(bounds["sensitivity"])))
    yield from _table(("metric", "value", "95 % interval"), rows)
    if test.get("per_class"):
        yield from _by_class(test, bounds.get("per_class") or {})
    if bounds:
        yield (
            f"\nIntervals of shares are Wilson's, the others of {bounds['resamples']} bootstrap resamples. Scans count "
            "as independent of each other: where patients have several, true intervals are wider."
        )
    yield from _at_sites(card)


def _by_class(test: Mapping[str, Any], bounds: Mapping[str, Any]) -> Iterator[str]:
    by_class = test["per_class"]
    yield "\nEach class against the rest:\n"
    yield from _table(
        ("class", *_OF_CLASS, "scans", "95 % interval of the recall"),
        [
            (
                name,
                *(_figure(each.get(metric)) for metric in _OF_CLASS),
                each["support"],
                _interval(bounds.get(name, {}).get("recall")),
            )
            for name, each in by_class.items()
        ],
    )
    yield "\nTrue classes in rows, answers in columns:\n"
    rows = zip(by_class, test["confusion"], strict=True)
    yield from _table(("", *by_class), [(name, *counts) for name, counts in rows])


def _at_sites(card: Mapping[str, Any]) -> Iterator[str]:
    told = card["site_evaluation"]
    if not told:
        return
    number = told[0]["of_round"]
    which = "this model" if number == card["model"]["round"] else f"round {number}'s model, the last that they judged"
    yield f"\nWhat sites say of {which}, on scans that they hold out (claims that nobody can check):\n"
    classes = card["model"]["classes"]
    yield from _table(
        ("site", "scans", "accuracy", "macro F1", *(f"recall {name}" for name in classes)),
        [(each["site"], each["images"], *map(_figure, _told(each))) for each in told],
    )


def _told(site: Mapping[str, Any]) -> list[float | None]:
    return [site["accuracy"], site["macro_f1"], *recalls(site["confusion"])]


def _calibration(found: Mapping[str, Any]) -> Iterator[str]:
    fitted = found["fitted"]
    if fitted is None:
        yield f"Not calibrated: {escaped(found['why'])}. Its probabilities are as the network gives them."
        return
    yield f"Fitted on {fitted['images']} validation scans, none of them of the test set:\n"
    yield f"- temperature: {fitted['temperature']:.4g} (divides the logits)"
    yield f"- threshold: {fitted['threshold']:.4g} (below this confidence there is no answer)"
    yield f"- max\\_energy: {fitted['max_energy']:.4g} (a scan of more is warned of as unlike what was learned)"
    test = found["test"]
    yield f"\nOn the {test['images']} scans of the test set:\n"
    rows = [(title, _figure(test["before"][name]), _figure(test["after"][name])) for name, title in _WORTH.items()]
    yield from _table(("", "as the network answers", "calibrated"), rows)
    answered = test["answered"]
    right = "" if answered["accuracy"] is None else f" {answered['accuracy']:.3f} of the others are answered rightly."
    yield f"\nIt abstains on {test['images'] - answered['images']} of them.{right}"
    yield f"{test['energy_above']} of them are above the energy that is warned of."


def _interval(found: Mapping[str, float] | None) -> str:
    return "-" if found is None else f"{found['low']:.3f} to {found['high']:.3f}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return every setting by its name, those of a group as `training.batch_size`."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(escaped(each) for each in columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_value(each) for each in row)} |"


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(each) for each in value) or "none"
    return escaped(value) or "-"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _code(text: object) -> str:
    return str(text).replace("`", "")
