"""Checks a run's files against what its records vouch for: models, `history.json`, updates that were kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fednet.audit.findings import Finding, field_findings


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """What a model's file holds."""

    sha256: str  # of the flat buffer
    run: str
    round: int


@dataclass(frozen=True)
class Damaged:
    """A file that is not there or cannot be used, in words."""

    why: str


MISSING = Damaged("missing")


@dataclass(frozen=True)
class RoundsModel:
    """The model of a round, as its record names it."""

    round: int
    sha256: str


def model_findings(
    name: str, found: FoundModel | Damaged, allowed: Sequence[RoundsModel], *, run: str
) -> list[Finding]:
    """Return what is wrong with a model's file, which must be one of the `allowed`: the first, where none fits."""
    expected = allowed[0]
    if isinstance(found, Damaged):
        return [Finding(round=expected.round, file=name, found=found.why)]
    fitting = [each for each in allowed if each.sha256 == found.sha256]
    expected = fitting[0] if fitting else expected
    ours = {"model": found.sha256, "round": found.round, "run": found.run}
    theirs = {"model": expected.sha256, "round": expected.round, "run": run}
    return field_findings(ours, theirs, round_number=expected.round, file=name)


def history_findings(
    name: str, found: Mapping[str, Any] | Damaged, allowed: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Return where `history.json` is not what follows from the rounds: none of `allowed`, the likeliest first."""
    if isinstance(found, Damaged):
        return [Finding(file=name, found=found.why)]
    by_difference = [field_findings(found, each, file=name) for each in allowed]
    return [] if [] in by_difference else by_difference[0]


def kept_findings(
    round_number: int, updates: Sequence[Mapping[str, Any]], digests: Mapping[str, str], *, folder: str
) -> list[Finding]:
    """Return what is wrong with a round's kept updates; `digests`: file -> SHA-256 of what is in `folder`."""
    findings = []
    for update in updates:
        name = f"{folder}/{update['worker']}.update"
        if name not in digests:
            findings.append(Finding(round=round_number, file=name, found=MISSING.why))
        elif digests[name] != update["sha256"]:
            findings.append(
                Finding(
                    round=round_number, file=name, field="sha256", found=digests[name], expected=str(update["sha256"])
                )
            )
    return findings
