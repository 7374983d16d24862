"""The coordinator's own optimiser over the aggregated steps: each round's step is taken for a gradient.

FedAvgM: v <- beta v + step, and v is the model's step (Hsu, Qi, Brown, 2019, "Measuring the Effects of Non-Identical
Data Distribution"). Nesterov's: v likewise, and the model's step is step + beta v (Sutskever et al., ICML 2013): sites
begin the next round where the last ones' course leads. FedAdam: m <- beta_1 m + (1 - beta_1) step, v <- beta_2 v +
(1 - beta_2) step^2, and the model's step is m / (sqrt(v) + tau) (Reddi et al., ICLR 2021, "Adaptive Federated
Optimization", algorithm 2). It comes after the rule: what was rejected moves neither the model nor the optimiser's
memory.

Nesterov's takes the place of the sites' own momentum, which would begin from nothing in each round and then gather
towards what that site alone has: sites drift less, and one learning rate comes as far as without a federation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fednet.config import ServerSettings
from fednet.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What the optimiser remembers between rounds; without entries where it remembers nothing."""

    moments: Mapping[str, torch.Tensor]  # each (d,) float32, on the CPU

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything remembered."""
        found = hashlib.sha256()
        for name in sorted(self.moments):
            found.update(name.encode() + self.moments[name].numpy().tobytes())
        return found.hexdigest()


FRESH = ServerState(moments={})


def server_step(step: torch.Tensor, before: ServerState, settings: ServerSettings) -> tuple[torch.Tensor, ServerState]:
    """Return (the model's step  # (d,) float32, what is remembered) for an aggregated step  # (d,) float32."""
    beta = settings.momentum
    match settings.optimizer:
        case "momentum" | "nesterov":
            velocity = beta * before.moments.get("momentum", 0.0) + step.cpu()
            moments = {"momentum": velocity}
            taken = velocity if settings.optimizer == "momentum" else step.cpu() + beta * velocity
        case "adam":
            moments = _adam_moments(step.cpu(), before.moments, beta, settings.beta_2)
            taken = moments["momentum"] / (moments["second"].sqrt() + settings.tau)
        case _:
            moments, taken = {}, step
    return taken if settings.learning_rate == 1.0 else taken * settings.learning_rate, ServerState(moments=moments)


def state_from(stored: object, settings: ServerSettings, *, width: int) -> ServerState:
    """Return the state that a checkpoint brings, as plain names and tensors; raises `ModelError` for another one."""
    remembered = {"momentum": {"momentum"}, "nesterov": {"momentum"}, "adam": {"momentum", "second"}}
    wanted = remembered.get(settings.optimizer, set())
    moments: dict[str, Any] = dict(stored) if isinstance(stored, Mapping) else {}
    is_sound = all(
        isinstance(each, torch.Tensor) and each.dtype == torch.float32 and each.shape == (width,)
        for each in moments.values()
    )
    if moments.keys() != wanted or not is_sound:
        found = ", ".join(map(str, moments)) or "none"
        raise ModelError("state of the server's optimiser", found=found, expected=", ".join(sorted(wanted)) or "none")
    return ServerState(moments=moments)


def _adam_moments(
    step: torch.Tensor, before: Mapping[str, torch.Tensor], beta_1: float, beta_2: float
) -> dict[str, torch.Tensor]:
    first, second = before.get("momentum", torch.zeros_like(step)), before.get("second", torch.zeros_like(step))
    return {
        "momentum": beta_1 * first + (1 - beta_1) * step,
        "second": beta_2 * second + (1 - beta_2) * step * step,
    }
