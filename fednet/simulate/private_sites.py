"""Virtual hospitals that train under differential privacy of their own, each on an account in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from fednet.config import PrivacySettings, RunSettings
from fednet.worker.compute import Compute
from fednet.worker.training import PickedData

if TYPE_CHECKING:
    from fednet.worker.privacy import SitePrivacy


class PrivateSites:
    """Keeps the hospitals' accounts over a federation's rounds."""

    def __init__(self, settings: PrivacySettings, planned: RunSettings) -> None:
        self._settings, self._planned = settings, planned
        self._sites: dict[str, SitePrivacy] = {}

    def train(self, name: str, model: nn.Module, data: PickedData, *, round_number: int, compute: Compute) -> None:
        """Train `model` in place on a hospital's data; raises as `fednet.worker.privacy.SitePrivacy`."""
        if name not in self._sites:
            self._sites[name] = self._new(name, model, data)
        training = self._planned.training_in(round_number)
        self._sites[name].train(model, training, round_number=round_number, compute=compute)

    def spent(self) -> dict[str, float]:
        """Return the epsilon that each hospital has spent."""
        return {name: site.epsilon for name, site in self._sites.items()}

    def _new(self, name: str, model: nn.Module, data: PickedData) -> SitePrivacy:
        from fednet.worker.privacy import SitePrivacy  # brings Opacus, which takes seconds
        from fednet.worker.privacy_ledger import InMemory, SiteLedger

        return SitePrivacy(
            self._settings,
            SiteLedger(InMemory(), name=name),
            run="virtual",
            planned=self._planned,
            data=data,
            model=model,
            notice=lambda text: None,
        )
