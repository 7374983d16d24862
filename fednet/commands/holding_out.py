"""`worker join --hold-out`: sets scans aside that judge global models, and says what of that leaves the hospital."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fednet.errors import BadInput

if TYPE_CHECKING:
    import torch

    from data.images import ScanSet
    from fednet.worker.held_out import HeldOut

F = TypeVar("F", bound=Callable[..., Any])

MOST_HELD_OUT = 0.5  # a coordinator takes no counts of more scans than a worker trains on


@dataclass(frozen=True)
class HoldingOut:
    """What a hospital has agreed to."""

    share: float  # of its scans, which never train
    is_shared: bool  # whether the coordinator is told the counts


def holding_out_options(function: F) -> F:
    """Add --hold-out and --share-evaluation."""
    hold_out = click.option(
        "--hold-out", type=float, help="Share of the scans that never trains, and judges each round's model here: 0.15."
    )
    share = click.option(
        "--share-evaluation", is_flag=True, help="Tell the coordinator how many of them were taken for what."
    )
    return hold_out(share(function))


def holding_out_from(hold_out: float | None, share_evaluation: bool) -> HoldingOut | None:
    """Return what the options ask for, or None; raises `BadInput`."""
    if hold_out is None:
        if share_evaluation:
            raise BadInput(
                "--share-evaluation",
                found="no --hold-out",
                expected="scans that are held out, for there to be something to share",
                todo="add --hold-out 0.15, say, from the run's first round on",
            )
        return None
    if not 0 < hold_out <= MOST_HELD_OUT:
        raise BadInput("--hold-out", found=f"{hold_out:g}", expected=f"more than 0 and at most {MOST_HELD_OUT:g}")
    return HoldingOut(hold_out, share_evaluation)


def set_aside(
    agreed: HoldingOut,
    folder: Path,
    scans: ScanSet,
    *,
    worker: str,
    device: torch.device,
    notice: Callable[[str], None],
) -> tuple[ScanSet, HeldOut]:
    """Return (scans to train on, what judges global models) of the scans in `folder`; raises `DataError`."""
    from data.classes import CLASSES
    from data.holdout import hold_out
    from data.loaders import ScanLoader
    from fednet.worker.held_out import HeldOut

    training, held = hold_out(folder, scans, share=agreed.share, worker=worker)
    counts = ", ".join(f"{name} {count}" for name, count in held.class_counts().items())
    whom = "the coordinator is told its counts" if agreed.is_shared else "what it finds stays here"
    notice(f"{len(held.labels)} of {len(scans.labels)} scans ({counts}) are held out, to judge models by; {whom}")
    data = ScanLoader(held, device)
    return training, HeldOut(data, classes=CLASSES, is_shared=agreed.is_shared, notice=notice)
