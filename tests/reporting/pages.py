"""Reports of made-up runs, and what is in a page; for tests."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fednet.reporting.card_text import card_text
from fednet.reporting.model_card import ModelFacts, Origin, model_card
from fednet.reporting.report import Checked, RunFound, run_report
from fednet.storage.history import RunHistory, Standing
from tests.reporting.cards import EXAMINED
from tests.reporting.made_up import CLASSES, settings

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
EVIL = "<script>alert('$x$')</script>"


class Seen(HTMLParser):
    """What a page is made of: its elements, the addresses they name, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def history(*documents: dict[str, Any], standing: Standing = Standing.FINISHED, **changes: Any) -> RunHistory:
    """Return a run of these rounds."""
    fields: dict[str, Any] = {
        "folder": Path("runs/first"),
        "run": "r1",
        "begun": NOW,
        "software": "fednet test",
        "settings": settings(rounds=max(1, len(documents))),
        "standing": standing,
        "rounds": documents,
        "ending": "finished: all rounds are done",
    }
    return RunHistory(**(fields | changes))


def report(found: RunHistory, **changes: Any) -> str:
    """Return its page; `changes` of what it is made of."""
    fields: dict[str, Any] = {
        "history": found,
        "live": None,
        "events": [{"at": NOW.isoformat(), "what": "began", "detail": ""}],
        "audit": {"round": len(found.rounds), "head": "ab" * 32},
        "checked": Checked(lines=["3 records, each signed by the coordinator"]),
        "cards": [],
        "made": NOW,
    }
    return run_report(RunFound(**(fields | changes)))


def renamed(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a round whose attacker is called `name`, and whose record says so everywhere."""
    last = document["updates"][-1]["worker"]
    updates = [each | {"worker": name if each["worker"] == last else each["worker"]} for each in document["updates"]]
    scored = [name if each == last else each for each in document["aggregation"]["scored"]]
    return document | {"updates": updates, "aggregation": document["aggregation"] | {"scored": scored}}


def card_of(*documents: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the card of the last round's model, as JSON and as Markdown."""
    facts = ModelFacts(
        file="final.pth",
        kind="the last",
        round=len(documents),
        sha256="cd" * 32,
        architecture="small-cnn",
        classes=CLASSES,
        image_size=64,
    )
    split = {
        "arguments": {"clients": 3, "dataset": "2200 phantoms of 64 pixels"},
        "classes": list(CLASSES),
        "sites": {"client1_data": [1, 2, 3, 4], "server_data/test": [5, 6, 7, 8]},
        "left_out": {EVIL: 2},
        "exact_duplicate_pairs": 9,
    }
    origin = Origin(run="r1", software={"fednet": "test"}, settings=settings().to_dict(), split=split)
    card = model_card(facts, origin, documents, EXAMINED)
    return card, card_text(card)


def update(number: int, verdict: str = "selected", **changes: Any) -> dict[str, Any]:
    """Return an update that left a hospital."""
    fields: dict[str, Any] = {
        "round": number,
        "sha256": f"{number:064x}",
        "at_s": NOW.timestamp() + number,
        "nbytes": 2**20,
        "samples": 40,
        "train_s": 3.0,
        "loss": 1 / number,
        "confusion": (),
        "epsilon": 0.0,
        "delta": 0.0,
        "is_acknowledged": True,
        "verdict": verdict,
        "reason": "selected" if verdict == "selected" else f"rejected: {EVIL}",
        "weight": 0.25,
    }
    return fields | changes


def found(*updates: dict[str, Any], finding: str = "", **changes: Any) -> dict[str, Any]:
    """Return what `worker inspect --json` says of a hospital with these updates."""
    chain = {"round": len(updates), "head": "ab" * 32, "finding": finding}
    size = sum(each["nbytes"] or 0 for each in updates)
    run = {"run": "r1", "worker": "client2", "updates": list(updates), "chain": chain, "bytes": size}
    fields: dict[str, Any] = {
        "log": "client_2.audit.jsonl",
        "signatures_checked": True,
        "verifies": not finding,
        "runs": [run],
        "bytes": size,
        "privacy": None,
    }
    return fields | changes
