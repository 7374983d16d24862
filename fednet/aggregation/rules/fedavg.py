"""FedAvg: the average of all updates, weighted by samples. Tolerates no malicious worker.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.
Condition: n >= 1. Weights are capped here too.
"""

from __future__ import annotations

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Plan, Rule, capped_weights


def _plan(geometry: Geometry, context: Context) -> Plan:
    everybody = tuple(range(geometry.count))
    return Plan(weights=capped_weights(context.claims, everybody)[None], selected=everybody)


def fedavg() -> Rule:
    """Return the rule."""
    return Rule(name="fedavg", needs=lambda byzantine: 1, plan=_plan, tolerates=False)
