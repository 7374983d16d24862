"""Cosine filter: leaves out the f updates of least cosine to the root update, and averages the others by samples.

A plain use of the root of trust, simpler than FLTrust's weights (Cao et al., NDSS 2021). Condition: n >= 2f + 1 and a
root of trust (`server_data/root`).
"""

from __future__ import annotations

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.krum import ranking
from fednet.aggregation.rules.rule import Context, Plan, Rule, capped_weights, more_than_half


def _plan(geometry: Geometry, context: Context) -> Plan:
    assert context.root is not None, "checked before the run: needs_root"
    scores = 1.0 - context.root.cosines(geometry)
    selected = tuple(ranking(scores)[: geometry.count - context.byzantine])
    return Plan(weights=capped_weights(context.claims, selected)[None], selected=selected, scores=scores)


def cosine_filter() -> Rule:
    """Return the rule."""
    return Rule(name="cosine-filter", needs=more_than_half, plan=_plan, needs_root=True)
