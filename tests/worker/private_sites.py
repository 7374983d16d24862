"""What tests of a hospital's differential privacy share: a network without BatchNorm, data, settings, ledgers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fednet.audit.record import canonical
from fednet.config import PrivacySettings, RunSettings, TrainingSettings
from fednet.storage.journal import Journal
from fednet.worker.privacy import SitePrivacy
from fednet.worker.privacy_ledger import InMemory, SiteLedger
from fednet.worker.training import PickedData
from tests.worker.fakes import TinyData, TinyNet, seeded

CPU = torch.device("cpu")
TRAINING = TrainingSettings(local_epochs=1, batch_size=8, learning_rate=0.05)
PRIVACY = PrivacySettings(epsilon=8.0, delta=1e-5, clip=1.0)


class GroupNet(TinyNet):
    """The tiny network, with GroupNorm in BatchNorm's place."""

    def __init__(self) -> None:
        super().__init__()
        self.features[1] = nn.GroupNorm(2, 4)


def group_net(seed: int = 0) -> GroupNet:
    """Return a network whose weights depend on `seed` alone."""
    with seeded(seed):
        return GroupNet()


def planned(**changes: Any) -> RunSettings:
    """Return the settings of a run of three rounds."""
    fields: dict[str, Any] = {"model": "tiny-gn", "image_size": 16, "classes": ("dark", "bright"), "training": TRAINING}
    return RunSettings(**(fields | {"rounds": 3, "workers": 1} | changes))


def site(
    ledger: SiteLedger | None = None,
    *,
    settings: PrivacySettings = PRIVACY,
    run: str = "r",
    run_settings: RunSettings | None = None,
    data: PickedData | None = None,
    model: nn.Module | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> SitePrivacy:
    """Return one hospital's privacy in one run, on an account in memory unless it is told which."""
    return SitePrivacy(
        settings,
        ledger or SiteLedger(InMemory(), name="a ledger"),
        run=run,
        planned=run_settings or planned(),
        data=data or TinyData(24),
        model=model or group_net(),
        notice=notice,
    )


def ledger_in(path: Path) -> SiteLedger:
    """Return the ledger in this file, as a process that starts reads it."""
    return SiteLedger(Journal(path), name=str(path))


def digest(line: dict[str, Any]) -> str:
    """Return what the next line of a ledger names as its predecessor."""
    return hashlib.sha256(canonical(line)).hexdigest()


def weights(model: nn.Module) -> torch.Tensor:
    """Return all weights of a model  # (n,) float32."""
    return torch.cat([each.detach().flatten() for each in model.parameters()])
