"""Multi-Krum: the weighted average of the m = n - f updates of the least Krum scores.

Source: as Krum (Blanchard et al. 2017, section 5). Condition: n >= 2f + 3. Weights are the claimed samples, capped.
"""

from __future__ import annotations

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.krum import krum_scores, ranking
from fednet.aggregation.rules.rule import Context, Plan, Rule, capped_weights
from fednet.config import fewest_updates
from fednet.errors import BadInput


def multikrum(*, m: float = 0) -> Rule:
    """Return the rule; `m` updates are kept, n - f where it is 0."""
    if m != int(m) or m < 0:
        raise BadInput("m of multikrum", found=f"{m:g}", expected="a whole number from 1, or 0 for n - f")

    def plan(geometry: Geometry, context: Context) -> Plan:
        scores = krum_scores(geometry.squared_distances(), context.byzantine)
        kept = geometry.count - context.byzantine
        selected = tuple(ranking(scores)[: min(int(m), kept) or kept])
        return Plan(weights=capped_weights(context.claims, selected)[None], selected=selected, scores=scores)

    return Rule(name="multikrum", needs=fewest_updates, plan=plan)
