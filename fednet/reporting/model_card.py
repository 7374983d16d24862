"""A model card: what a model was made of, by whom, how good it is, and what it is not for. Pure.

The headings are those of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019. A card holds counts and metrics
only, no image, no file's name and nothing of a patient; the same run gives the same card, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fednet.reporting.examination import Examined

FORMAT = "fednet-model-card-1"

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
_INPUT = (
    "one slice of a brain MRI at a time, 8-bit grey, resized to a square of {size} pixels; cli.py predict makes it of "
    "JPEG, PNG, BMP, TIFF, DICOM and NIfTI"
)
_USE = "Research on classifiers of brain MRI and on federated learning. It is not a medical device."
_LIMITS = (
    "It was never validated clinically: nobody has shown that it does good or no harm. No decision about a patient may "
    "rest on it.",
    "It answers with one of its classes whatever it is shown: other tumours, organs and contrasts too. That a scan is "
    "not warned of does not mean that the model knows what it sees.",
    "Its figures are those of one test set. Twins of images are kept apart from it, patients are not: data without "
    "patient identifiers may show slices of one patient on both sides.",
    "What the framework protects a run against, and what not, is in the README, under "
    "'What it does not protect against'.",
)
_TEST_SETS = {
    "published": "The test set is the one published with the data set. That of the public Kaggle set is drawn "
    "otherwise than its training images (ResNet18 from scratch reached 0.69 on it, and 0.86 on a re-split by duplicate "
    "groups): do not compare figures of the two.",
    "resplit": "The test set is a share of all images, drawn by groups of duplicates.",
}


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """Which model a card is about."""

    file: str  # its name
    kind: str  # which of the run's it is: `the last`, `the best by validation`
    also: str = ""  # another file of the same round's model
    round: int  # or epoch
    sha256: str  # of the tensors, as the run's record names them
    architecture: str
    classes: Sequence[str]
    image_size: int  # pixels, square


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model comes from; everything in plain JSON types."""

    run: str
    software: Mapping[str, str]  # name -> version
    settings: Mapping[str, Any]
    begun_s: float | None = None  # seconds since 1970, as the run recorded them
    ended_s: float | None = None
    record: str = ""  # digest of the audit chain's last header
    split: Mapping[str, Any] | None = None  # `split.json`, where the coordinator's data has one
    sites: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # scans by class, where they lie here
    spent: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of these sites' privacy: epsilon, delta


def model_card(
    model: ModelFacts, origin: Origin, documents: Sequence[Mapping[str, Any]], found: Examined
) -> dict[str, Any]:
    """Return the card of the model of one of these rounds, in plain JSON types.

    `documents`: the rounds as history.json has them, first to last; `found`: what the last look at the model found.
    """
    told = _told_by_sites(documents, model.round)
    spent = documents[-1].get("client_privacy")  # by all rounds: the best model was chosen from them
    claimed = private_sites(documents) or origin.spent
    documents = [each for each in documents if each["round"] <= model.round]
    last = documents[-1]
    return {
        "format": FORMAT,
        "model": {
            "file": model.file,
            "kind": model.kind,
            "same_model_as": model.also or None,
            "round": model.round,
            "sha256": model.sha256,
            "architecture": model.architecture,
            "classes": list(model.classes),
            "image_size": model.image_size,
        },
        "run": {
            "id": origin.run,
            "begun": _moment(origin.begun_s),
            "ended": _moment(origin.ended_s),
            "last_record": origin.record or None,
            "software": dict(origin.software),
        },
        "intended_use": {
            "use": _USE,
            "classes": list(model.classes),
            "input": _INPUT.format(size=model.image_size),
            "limits": list(_LIMITS),
        },
        "training": {
            "rounds": len(documents),
            "refused": [each["round"] for each in documents if each.get("refused")],
            "settings": dict(origin.settings),
        },
        "data": {
            "sites": _claimed(documents) or _counted(origin.sites),
            "are_claims": not origin.sites,
            "server": {part: counts for part in ("validation", "test") if (counts := class_counts(last.get(part)))},
            "split": None if origin.split is None else _split(origin.split),
        },
        "contributions": contributions(documents),
        "evaluation": {
            "test": last.get("test") or {},
            "validation": last.get("validation") or {},
            "intervals": found.intervals,
        },
        "site_evaluation": told,
        "calibration": found.calibration,
        "privacy": privacy_of(origin.settings, spent, claimed),
    }


def card_files(model: str) -> tuple[str, str]:
    """Return the names of the card beside a model's file, as JSON and for people: `final.card.json` and `.md`."""
    stem = model.removesuffix(".pth")
    return f"{stem}.card.json", f"{stem}.card.md"


def privacy_of(
    settings: Mapping[str, Any],
    client_level: Mapping[str, Any] | None = None,
    sites: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return what a run with these settings did for the privacy of its scans, and what that has spent.

    `client_level`: what its last round says of client-level differential privacy, where it keeps any; `sites`:
    {"epsilon", "delta"} that each site says to have spent of its own scans' privacy, 0.0 for one that keeps none.
    """
    found = _privacy_of_run(client_level)
    private = {name: dict(each) for name, each in (sites or {}).items() if each["epsilon"]}
    if not private:
        return found
    told = ", ".join(
        f"{name} epsilon {each['epsilon']:.3g} at delta {each['delta']:g}" for name, each in sorted(private.items())
    )
    others = ", ".join(sorted(set(sites or ()) - set(private)))
    text = (
        f"Differential privacy at the sites, as they say themselves: {told}. It bounds what all updates of such a site "
        "together tell of whether one scan was among its scans, not of a patient with several, and not how many scans "
        "there are." + (f" Nothing bounds it for {others}." if others else "")
    )
    return {
        "differential_privacy": found["differential_privacy"],
        "sites": private,
        "spent": f"{found['spent']} {text}" if client_level else text,
    }


def _privacy_of_run(client_level: Mapping[str, Any] | None) -> dict[str, Any]:
    if client_level:
        names = ("epsilon", "delta", "rounds", "clip", "noise_deviation", "sensitivity", "adjacency")
        return {
            "differential_privacy": {"level": "client", **{name: client_level[name] for name in names}},
            "spent": f"Client-level differential privacy: epsilon {client_level['epsilon']:.3g} at delta "
            f"{client_level['delta']:g}, spent on {client_level['rounds']} noised steps by all models of the run "
            "together. It bounds what these models tell of all that one hospital sent; whoever runs the coordinator "
            "sees each update without noise, and figures, verdicts and counts of scans in this card are not covered.",
        }
    return {
        "differential_privacy": None,
        "spent": "No differential privacy was applied: nothing bounds what the model tells of a single training scan.",
    }


def class_counts(metrics: Mapping[str, Any] | None) -> dict[str, int]:
    """Return how many scans of each class a set had, from the metrics of a model on it."""
    return {name: int(each["support"]) for name, each in ((metrics or {}).get("per_class") or {}).items()}


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _split(split: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a `split.json` says of the whole; its list of files stays where it is."""
    arguments = dict(split.get("arguments") or {})
    is_synthetic = " phantoms of " in str(arguments.get("dataset"))
    return {
        "arguments": arguments,
        "test_set": "" if is_synthetic else _TEST_SETS.get(str(arguments.get("test_from")), ""),
        "classes": list(split.get("classes") or ()),
        "sites": dict(split.get("sites") or {}),
        "left_out": dict(split.get("left_out") or {}),
        "duplicates": {
            name: int(split.get(name, 0))
            for name in ("exact_duplicate_pairs", "near_duplicate_pairs", "contradicting_groups")
        },
    }


def _claimed(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how many scans each site said it trains on, in its last update."""
    said = {str(each["worker"]): int(each["samples"]) for document in documents for each in _updates(document)}
    return [{"site": name, "samples": said[name]} for name in sorted(said)]


def _counted(sites: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    return [{"site": name, "samples": sum(found.values()), "classes": dict(found)} for name, found in sites.items()]


def private_sites(documents: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return what each site said last to have spent of its privacy; 0.0 where any of its updates had none.

    Nothing where no site has said so.
    """
    spent: dict[str, dict[str, float]] = {}
    for document in documents:
        for update in document.get("updates") or ():
            name, epsilon = str(update["worker"]), float(update.get("epsilon") or 0.0)
            was_private = spent.get(name, {"epsilon": epsilon})["epsilon"] > 0
            spent[name] = {
                "epsilon": epsilon if was_private else 0.0,
                "delta": float(update.get("delta") or 0.0),
            }
    return spent if any(each["epsilon"] for each in spent.values()) else {}


def contributions(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each site how often it counted in these rounds, and why it did not when it did not."""
    by_site: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for document in documents:
        for update in _updates(document):
            by_site.setdefault(str(update["worker"]), []).append((int(document["round"]), update))
    return [
        {
            "site": name,
            "updates": len(found := by_site[name]),
            "counted": sum(bool(update["selected"]) for _, update in found),
            "mean_weight": sum(float(update.get("weight") or 0.0) for _, update in found) / len(found),
            "not_counted": _reasons([(number, update) for number, update in found if not update["selected"]]),
        }
        for name in sorted(by_site)
    ]


def _reasons(rejected: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the reasons, the most frequent first; those that differ in their figures only are one."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for number, update in rejected:
        reason = str(update.get("reason") or "no reason was recorded")
        alike.setdefault(_NUMBER.sub("#", reason), []).append((number, reason))
    found = sorted(alike.values(), key=lambda each: (-len(each), each[0][0]))
    return [
        {"updates": len(each), "first_round": each[0][0], "last_round": each[-1][0], "reason": each[-1][1]}
        for each in found
    ]


def _told_by_sites(documents: Sequence[Mapping[str, Any]], number: int) -> list[dict[str, Any]]:
    """Return what sites told of a round's model, or else of the last before it: they do so in a later round."""
    told = [
        {"site": str(site), **found}
        for document in documents
        for site, found in (document.get("site_evaluation") or {}).items()
        if found["of_round"] <= number
    ]
    last = max((each["of_round"] for each in told), default=0)
    return [each for each in told if each["of_round"] == last]


def _updates(document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return a round's updates; where the guard refused its step, none of them counted."""
    updates: Sequence[Mapping[str, Any]] = document.get("updates") or ()
    refused = document.get("refused")
    if not refused:
        return updates
    return [{**each, "selected": False, "weight": 0.0, "reason": refused["reason"]} for each in updates]
