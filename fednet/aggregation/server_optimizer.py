"""The coordinator's own optimiser over the aggregated steps: each round's step is taken for a gradient.

FedAvgM: v <- beta v + step, and v is the model's step (Hsu, Qi, Brown, 2019, "Measuring the Effects of Non-Identical
Data Distribution"). Nesterov's: v likewise, and the model's step is step + beta v (Sutskever et al., ICML 2013): sites
begin the next round where the last ones' course leads, and so need not gather speed anew, as their own momentum, which
starts from nothing in each round, makes them. FedAdam: m <- beta_1 m + (1 - beta_1) step, v <- beta_2 v +
(1 - beta_2) step^2, and the model's step is m / (sqrt(v) + tau) (Reddi et al., ICLR 2021, "Adaptive Federated
Optimization", algorithm 2). It comes after the rule: what was rejected moves neither the model nor the optimiser's
memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from fednet.aggregation.strategy import Verdict
from fednet.config import RunSettings, ServerSettings, TrainingSettings, WorkerName
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


def fitted(settings: RunSettings, verdicts: Sequence[Verdict], samples: Mapping[WorkerName, int]) -> ServerSettings:
    """Return the optimiser's settings in a round, with a momentum where the run leaves it open.

    `samples` that the workers of the `verdicts` claim. Client-level privacy forbids to count them: no momentum then.
    """
    if settings.server.momentum is not None:
        return settings.server
    verdicts = [] if settings.client_privacy.is_on else verdicts
    counted = [(each.weight, samples[each.worker]) for each in verdicts]
    return replace(settings.server, momentum=lost_by_sites(settings.training, counted))


def lost_by_sites(training: TrainingSettings, counted: Sequence[tuple[float, int]]) -> float:
    """Return which share of their way the sites' momenta lose by starting from nothing in each round, 0 to below 1.

    With momentum m the t-th of H steps along an even slope is shorter by m^(t+1) of it than one of SGD that runs on:
    together m^2 (1 - m^H) / (1 - m) steps. `counted`: of each update its share of the step, and how many samples it was
    trained on; they are summed as the step is. A server that repeats this share of its last step makes up for it.
    """
    momentum = training.momentum
    taken = [(weight, training.steps(math.ceil(samples / training.batch_size))) for weight, samples in counted]
    way = sum(weight * steps for weight, steps in taken)
    lost = sum(weight * momentum**2 * (1 - momentum**steps) / (1 - momentum) for weight, steps in taken)
    return lost / way if way > 0 else 0.0


def server_step(step: torch.Tensor, before: ServerState, settings: ServerSettings) -> tuple[torch.Tensor, ServerState]:
    """Return (the model's step  # (d,) float32, what is remembered) for an aggregated step  # (d,) float32.

    `settings` leave no momentum open: see `fitted`.
    """
    beta = settings.momentum
    assert beta is not None, "fitted to the round before it is used"
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
