"""Tournament: eight rules each propose a step; the round takes the one whose model does best on the root scans.

Condition: n >= 2f + 3 and a root of trust (`server_data/root`: labelled scans of the coordinator's own, in neither
validation nor test). In Gram space a candidate costs a weighted sum and a pass over the root scans. The choice from
several by a trusted set follows Zeno's idea (Xie, Koyejo, Gupta, "Zeno: Distributed Stochastic Gradient Descent with
Suspicion-based Fault-tolerance", ICML 2019), applied to whole rules instead of to single updates.
"""

from __future__ import annotations

import math
from dataclasses import replace

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.mixings.nnm import nnm
from fednet.aggregation.recipe import Recipe
from fednet.aggregation.rules.cosine_filter import cosine_filter
from fednet.aggregation.rules.fedavg import fedavg
from fednet.aggregation.rules.fltrust import fltrust
from fednet.aggregation.rules.geometric_median import geometric_median
from fednet.aggregation.rules.learned_weights import learned_weights
from fednet.aggregation.rules.multikrum import multikrum
from fednet.aggregation.rules.rule import Context, Plan, Rule
from fednet.aggregation.rules.trimmed_mean import trimmed_mean
from fednet.config import fewest_updates

CANDIDATES = (
    Recipe(rule=multikrum()),
    Recipe(rule=geometric_median()),
    Recipe(rule=multikrum(), mixings=(nnm(),)),
    Recipe(rule=trimmed_mean(), mixings=(nnm(),)),
    Recipe(rule=fedavg()),
    Recipe(rule=fltrust()),
    Recipe(rule=cosine_filter()),
    Recipe(rule=learned_weights()),
)


def _plan(geometry: Geometry, context: Context) -> Plan:
    assert context.trial is not None, "checked before the run: needs_root"
    plans = [candidate.plan(geometry, context) for candidate in CANDIDATES]
    losses = [_loss(context.trial(plan)) for plan in plans]
    best = min(range(len(plans)), key=losses.__getitem__)  # the first of equals
    tried = ", ".join(f"{each.name} {loss:.3f}" for each, loss in zip(CANDIDATES, losses, strict=True))
    return replace(plans[best], note=f"{CANDIDATES[best].name} won the tournament; losses on the root scans: {tried}")


def _loss(found: float) -> float:
    return found if math.isfinite(found) else math.inf


def tournament() -> Rule:
    """Return the rule."""
    return Rule(name="tournament", needs=fewest_updates, plan=_plan, needs_root=True, tries_models=True)
