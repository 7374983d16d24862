"""FLTrust: each update scaled to the root update's norm and weighed by how far it agrees with it.

T_i = max(0, cos(x_i, root)); step = sum_i T_i |root| / |x_i| x_i / sum_i T_i. Source: Cao, Fang, Liu, Gong, "FLTrust:
Byzantine-robust Federated Learning via Trust Bootstrapping", NDSS 2021. Condition: n >= 1 and a root of trust
(`server_data/root`). Where nobody agrees with the root the step is 0.
"""

from __future__ import annotations

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Plan, Rule, single


def _plan(geometry: Geometry, context: Context) -> Plan:
    assert context.root is not None, "checked before the run: needs_root"
    trust = context.root.cosines(geometry).clamp(min=0.0)
    if float(trust.sum()) == 0.0:
        return single(torch.zeros_like(trust))
    scale = torch.where(trust > 0, context.root.norm / geometry.norms(), 0.0)
    return single(trust * scale / trust.sum())


def fltrust() -> Rule:
    """Return the rule."""
    return Rule(name="fltrust", needs=lambda byzantine: 1, plan=_plan, needs_root=True)
