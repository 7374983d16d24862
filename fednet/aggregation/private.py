"""The part of client-level differential privacy that the aggregation has: how far one hospital can move a round's step.

Source: McMahan, Ramage, Talwar, Zhang, "Learning Differentially Private Recurrent Language Models", ICLR 2018, with
rounds of fixed size (all m hospitals of the run are asked in each round, so nothing is claimed for sampling).

Every update counts as x_i min(1, C / |x_i|). Claimed samples do not count: they are private, and unbounded.

- FedAvg: step = 1/m sum over those who delivered, m being the number of hospitals of the run: one that is absent, or
  whose update is not finite, adds nothing and changes nobody else's share. Noise: N(0, (Z C / m)^2) on each coordinate.
- Krum, Multi-Krum: one hospital's change can change which updates are chosen, so what bounds the step's move is that it
  has norm C at most before and after: 2C, not C/m. Noise: N(0, (Z 2C)^2) on each coordinate.

Two runs are adjacent where one hospital sends other updates throughout (replacement). That bounds the step's move by
S = 2C/m for FedAvg and S = 2C for Krum; a hospital that leaves is one that sends 0, which moves it no further. What is
accounted is the noise's deviation over S: Z/2 for FedAvg (twice as careful as adding and removing alone, where S = C/m)
and Z for Krum.

Pure: noise is drawn elsewhere (fednet.privacy.noise), and added before anybody sees the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.mixings.norm_clipping import clipped_to
from fednet.aggregation.recipe import Recipe
from fednet.aggregation.rules.registry import recipe_named
from fednet.aggregation.rules.rule import Context, Mixing, Plan, Rule
from fednet.config import ClientPrivacySettings, RunSettings
from fednet.errors import BadInput
from fednet.tensors import Manifest

_ROUNDING = 1e-3  # norms and sums are float32: updates are clipped by this much more, so that C is never passed
_SELECTING = ("krum", "multikrum")


@dataclass(frozen=True, kw_only=True)
class CentreMechanism:
    """The Gaussian mechanism of one run's rounds."""

    sensitivity: float  # the most that one hospital moves a step, in L2
    deviation: float  # of the noise on each coordinate

    @property
    def multiplier(self) -> float:
        """Return the noise in sensitivities: what is accounted."""
        return self.deviation / self.sensitivity


def recipe_of(settings: RunSettings) -> Recipe:
    """Return what aggregates a run's rounds; raises `BadInput` where the rule does not go with its privacy."""
    recipe = recipe_named(settings.aggregator, settings.pre)
    return private_recipe(recipe, settings.client_privacy, workers=settings.workers)


def private_recipe(recipe: Recipe, privacy: ClientPrivacySettings, *, workers: int) -> Recipe:
    """Return the recipe over clipped, evenly weighted updates, or as it is where there is no privacy to keep.

    Raises `BadInput` for one whose sensitivity nobody has worked out here.
    """
    if not privacy.is_on:
        return recipe
    _require_known(recipe)
    rule = recipe.rule if recipe.rule.name in _SELECTING else _with_fixed_count(recipe.rule, workers)
    return Recipe(rule=rule, mixings=(_clipping(privacy.clip),), is_private=True)


def claim_of(samples: int, *, is_private: bool) -> int:
    """Return the samples that an update counts with: under client-level privacy all the same, if it claims any."""
    return min(samples, 1) if is_private else samples


def mechanism_of(rule: str, privacy: ClientPrivacySettings, *, workers: int) -> CentreMechanism:
    """Return how the rule's step is noised; `rule` is its name."""
    if rule in _SELECTING:
        return CentreMechanism(sensitivity=2 * privacy.clip, deviation=privacy.noise * 2 * privacy.clip)
    return CentreMechanism(sensitivity=2 * privacy.clip / workers, deviation=privacy.noise * privacy.clip / workers)


def require_no_buffers(manifest: Manifest, *, model: str) -> None:
    """Raise `BadInput` for a model with BatchNorm: no clip bounds its statistics, and no noise covers them."""
    buffers = [spec.name for spec in manifest.specs if not spec.is_parameter]
    if buffers:
        raise BadInput(
            "--client-dp-clip",
            found=f"{model}, whose BatchNorm statistics ({buffers[0]} ...) no clip bounds and no noise covers",
            expected="a model without them",
            todo="--model resnet18-gn",
        )


def _require_known(recipe: Recipe) -> None:
    if recipe.steps:
        raise BadInput(
            f"--pre {recipe.steps[0]}",
            found="--client-dp-clip, and what comes before the rule may let one hospital decide how others count",
            todo="leave one of them out: updates are clipped anyway",
        )
    if recipe.rule.name not in ("fedavg", *_SELECTING):
        raise BadInput(
            f"--aggregator {recipe.rule.name}",
            found="--client-dp-clip, and how far one hospital moves this rule's step is not known here",
            expected="fedavg; or krum, multikrum with far more noise",
        )


def _clipping(clip: float) -> Mixing:
    most = clip / (1 + _ROUNDING)

    def weights(geometry: Geometry, context: Context) -> torch.Tensor:
        return clipped_to(geometry.norms(), most)

    return Mixing(name="client-dp", needs=lambda byzantine: 1, weights=weights)


def _with_fixed_count(rule: Rule, workers: int) -> Rule:
    """Return an averaging rule that divides by all of the run's hospitals, whoever delivered."""
    of_those_who_came: Callable[[Geometry, Context], Plan] = rule.plan

    def plan(geometry: Geometry, context: Context) -> Plan:
        made = of_those_who_came(geometry, context)
        return replace(made, weights=made.weights * (geometry.count / workers))

    return replace(rule, plan=plan)
