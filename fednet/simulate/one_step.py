"""What a virtual hospital sends after one local step on a few scans: by the code that a worker trains with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fednet.config import PrivacySettings, RunSettings, derived_seed
from fednet.simulate.private_sites import PrivateSites
from fednet.tensors import Manifest, manifest_of, pack, update_from, views
from fednet.worker.compute import Compute
from fednet.worker.training import PickedData, train

_NAME = "client1"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One update, and what the coordinator knows of it."""

    update: torch.Tensor  # (n,) uint8
    manifest: Manifest
    epsilon: float  # what it has spent; 0: no differential privacy


def one_step(network: nn.Module, data: PickedData, planned: RunSettings, *, privacy: PrivacySettings | None) -> Sent:
    """Train the model in `network`, which stays as it is, for the first round of the run `planned`, on the CPU.

    `privacy`: a budget for this run alone. Raises as `fednet.worker.training.train`, or as
    `fednet.worker.privacy.SitePrivacy`.
    """
    manifest = manifest_of(network.state_dict(), [name for name, _ in network.named_parameters()])
    base = pack(network.state_dict(), manifest)
    compute, epsilon = Compute(torch.device("cpu")), 0.0
    if privacy is None:
        seed = derived_seed(planned.seed, "train", _NAME, 1)
        train(network, data, planned.training_in(1), seed=seed, compute=compute)
    else:
        sites = PrivateSites(privacy, planned)
        sites.train(_NAME, network, data, round_number=1, compute=compute)
        epsilon = sites.spent()[_NAME]
    update = update_from(pack(network.state_dict(), manifest), base, manifest)
    network.load_state_dict(views(base, manifest))
    return Sent(update=update, manifest=manifest, epsilon=epsilon)
