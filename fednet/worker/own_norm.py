"""BatchNorm that stays at home: each site keeps its own and never takes the global one (FedBN).

Source: Li, Jiang, Zhang, Kamp, Dou, "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization",
ICLR 2021. Here a site's BatchNorm travels with its update all the same, so that the global model has an averaged one
for those who have no own: the coordinator's test set, a new hospital.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fednet.aggregation.batch_norm import norm_tensors


class OwnNorm:
    """One site's BatchNorm between rounds; before its first it has none, and takes the global one."""

    def __init__(self, model: nn.Module) -> None:
        self._names = norm_tensors(model)
        self._own: dict[str, torch.Tensor] = {}

    def keep(self, state: Mapping[str, torch.Tensor]) -> None:
        """Remember the BatchNorm of the site's model."""
        self._own = {name: state[name].detach().cpu().clone() for name in self._names}

    def restore(self, model: nn.Module) -> None:
        """Put it into a model that has just been given the global one."""
        if self._own:
            model.load_state_dict(self._own, strict=False)
