"""`--dp-epsilon`, `--dp-delta`, `--dp-clip`: a hospital trains under differential privacy, on an account of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fednet.config import PrivacySettings
from fednet.errors import BadInput, ModelError

if TYPE_CHECKING:
    from torch import nn

    from fednet.config import RunSettings
    from fednet.worker.privacy import SitePrivacy
    from fednet.worker.privacy_ledger import SiteLedger
    from fednet.worker.training import PickedData

F = TypeVar("F", bound=Callable[..., Any])

_DELTA, _CLIP = 1e-5, 1.0


def privacy_options(function: F) -> F:
    """Add --dp-epsilon, --dp-delta and --dp-clip."""
    epsilon = click.option(
        "--dp-epsilon", type=float, help="Train by DP-SGD, and spend at most this epsilon in all (default: no privacy)."
    )
    delta = click.option("--dp-delta", type=float, help=f"The chance that epsilon does not hold (default: {_DELTA:g}).")
    clip = click.option("--dp-clip", type=float, help=f"Largest norm of one scan's gradient (default: {_CLIP:g}).")
    return epsilon(delta(clip(function)))


def privacy_settings(given: dict[str, Any]) -> PrivacySettings | None:
    """Take `privacy_options` out of `given` and return what they ask for; raises `BadInput` naming one."""
    epsilon, delta, clip = (given.pop(f"dp_{name}") for name in ("epsilon", "delta", "clip"))
    if epsilon is None:
        for name, value in (("--dp-delta", delta), ("--dp-clip", clip)):
            if value is not None:
                raise BadInput(name, found="no --dp-epsilon", todo="give --dp-epsilon 8, say, for there to be privacy")
        return None
    return PrivacySettings(
        epsilon=epsilon, delta=_DELTA if delta is None else delta, clip=_CLIP if clip is None else clip
    )


def require_private(
    privacy: PrivacySettings | None,
    *,
    compiles: bool,
    mixes: bool | None,
    processes: int = 1,
    shares_evaluation: bool = False,
) -> None:
    """Raise `BadInput` for what cannot be had together with differential privacy."""
    if privacy is None:
        return
    for is_asked, option, why in (
        (compiles, "--compile", "the gradients of single scans are not compiled"),
        (bool(mixes), "--precision mixed", "single scans' gradients are clipped in float32"),
        (shares_evaluation, "--share-evaluation", "exact counts of scans have no noise"),
        (processes > 1, f"torchrun with {processes} processes", "one process draws the scans and the noise"),
    ):
        if is_asked:
            raise BadInput(option, found=f"--dp-epsilon as well, and {why}", todo="leave one of the two out")


def site_privacy(
    settings: PrivacySettings | None,
    *,
    beside: Path | None,
    run: str,
    planned: RunSettings,
    data: PickedData,
    model: nn.Module,
    notice: Callable[[str], None],
) -> SitePrivacy | None:
    """Return what trains under differential privacy in this run, or None where that is not asked for.

    `beside`: the own model, beside which the ledger lies; None: there is none to keep. Raises as `SitePrivacy`, and as
    `ledger_beside`.
    """
    if settings is None:
        if beside is not None and ledger_path(beside).exists():
            notice(
                f"Warning: {ledger_path(beside)} bounds what earlier trainings gave away of these scans; this one is "
                "without --dp-epsilon, and nothing bounds it"
            )
        return None
    from fednet.worker.privacy import SitePrivacy
    from fednet.worker.privacy_ledger import InMemory, SiteLedger

    ledger = SiteLedger(InMemory(), name="this training's ledger") if beside is None else ledger_beside(beside)
    return SitePrivacy(settings, ledger, run=run, planned=planned, data=data, model=model, notice=notice)


def ledger_path(model: Path) -> Path:
    """Return where the ledger of the hospital that keeps its own model here lies: `client_1.privacy.jsonl`."""
    return model.with_suffix(".privacy.jsonl")


def ledger_beside(model: Path) -> SiteLedger:
    """Return the ledger of the hospital that keeps its own model here.

    Raises `BadInput` for one that was changed, or that lacks what the model in that file was charged to;
    `StorageError`.
    """
    from fednet.storage.journal import Journal
    from fednet.worker.privacy_ledger import SiteLedger

    path = ledger_path(model)
    ledger = SiteLedger(Journal(path), name=str(path))
    head = _charged_to(model)
    if head:
        ledger.require(head, beside=str(model))
    return ledger


def name_ledger(model: Path, head: str) -> None:
    """Let a model's file name the end of its ledger anew, where more has been charged since it was trained.

    Raises `ModelError`, `StorageError`.
    """
    from models import checkpoint

    saved = checkpoint.load(model)
    checkpoint.save(model, saved.state, replace(saved.facts, extra={**saved.facts.extra, "ledger": head}))


def _charged_to(model: Path) -> str:
    """Return the digest that a model's file names as the end of its ledger; none where it was trained without."""
    from models import checkpoint

    if not model.exists():
        return ""
    try:
        return str(checkpoint.load(model).facts.extra.get("ledger", ""))
    except ModelError:
        return ""  # no model of ours: it was charged to nothing
