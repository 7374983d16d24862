"""A hospital's folder and device, opened for a run; the same in every process of its worker (`torchrun`)."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import nn

from data.cache import CachePlace
from data.classes import CLASSES
from data.images import ScanSet
from data.loaders import ScanLoader
from fednet.commands import wiring
from fednet.commands.holding_out import HoldingOut, set_aside
from fednet.config import PrivacySettings, RunSettings
from fednet.errors import BadInput, ProcessLost
from fednet.tensors import bytes_of
from fednet.worker.compute import Compute
from fednet.worker.held_out import HeldOut
from fednet.worker.replicas import Replicas, RunOpened
from fednet.worker.training import train

Notice = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class OpenSite:
    """What a site trains with in one run."""

    model: nn.Module
    data: ScanLoader
    compute: Compute
    held_out: HeldOut | None


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a hospital gives its worker, in each of its processes."""

    data: Path
    device: torch.device
    max_bad_files: float
    cache: CachePlace
    holding_out: HoldingOut | None
    images_at_once: int | None
    privacy: PrivacySettings | None = None
    compiles: bool = False
    mixes: bool | None = None
    replicas: Replicas
    quiet: bool = False  # no bar while scans are read

    def open(self, settings: RunSettings, *, worker: str, notice: Notice) -> OpenSite:
        """Load the scans and build the run's model, in all processes. Raises `BadInput` or `ProcessLost`."""
        if settings.classes != CLASSES:
            found = ", ".join(settings.classes)
            raise BadInput(
                "classes of the run", found=found, expected=", ".join(CLASSES), todo="use the same FedNet version"
            )
        with self.replicas.opening(settings, worker):
            scans, held_out = self._scans(settings, worker, notice)
            model = wiring.new_model(settings.model, seed=0, pretrained="no", weights=None, notice=notice)
            return OpenSite(
                model=self.replicas.synchronised(model, name=settings.model).to(self.device),
                data=ScanLoader(scans, self.device, share=self.replicas.share),
                compute=Compute(
                    self.device,
                    compiles=self.compiles,
                    mixes=self.mixes,
                    most_at_once=self.images_at_once,
                    replicas=self.replicas,
                    notice=notice,
                ),
                held_out=held_out,
            )

    def _scans(self, settings: RunSettings, worker: str, notice: Notice) -> tuple[ScanSet, HeldOut | None]:
        scans = wiring.load_scans(
            self.data,
            image_size=settings.image_size,
            max_bad_files=self.max_bad_files,
            notice=notice,
            cache=self.cache,
            quiet=self.quiet,
        )
        held_out = None
        if self.holding_out is not None:
            scans, held_out = set_aside(
                self.holding_out, self.data, scans, worker=worker, device=self.device, notice=notice
            )
        if self.replicas.size > 1:
            self.replicas.require_same(_digest(scans), what=f"scans of {self.data}")
        return scans, held_out


def help_train(site: Site) -> None:
    """Be one of a worker's further processes: open and train what the first does, until it says that all is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all: the first one says when to stop
    opened: OpenSite | None = None
    try:
        while (begun := site.replicas.heard()) is not None:
            if isinstance(begun, RunOpened):
                opened = site.open(begun.settings, worker=begun.worker, notice=_silent)
            else:
                assert opened is not None, "the first process opens a run before it trains"
                train(opened.model, opened.data, begun.settings, seed=begun.seed, compute=opened.compute)
    except ProcessLost:
        raise click.exceptions.Exit(1) from None  # the first process says so, or torchrun says that it is the one


def _silent(text: str) -> None:
    """The first process says it."""


def _digest(scans: ScanSet) -> bytes:
    found = hashlib.sha256(bytes_of(scans.images.contiguous()))
    found.update(bytes_of(scans.labels))
    return found.digest()
