"""Guarded Multi-Krum: Multi-Krum's selection, each selected update also weighed by its agreement with the root update.

c_i = w_i max(0, cos(x_i, root)) over the selected, scaled to sum 1, with w_i Multi-Krum's weights; Multi-Krum's own
weights where none of the selected agrees at all. The agreement is FLTrust's (Cao et al., NDSS 2021), the selection
Blanchard's. Condition: n >= 2f + 3 and a root of trust (`server_data/root`).
"""

from __future__ import annotations

from dataclasses import replace

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.multikrum import multikrum
from fednet.aggregation.rules.rule import Context, Plan, Rule
from fednet.config import fewest_updates


def guarded_multikrum(*, m: float = 0) -> Rule:
    """Return the rule; `m` as for Multi-Krum."""
    base = multikrum(m=m)

    def plan(geometry: Geometry, context: Context) -> Plan:
        assert context.root is not None, "checked before the run: needs_root"
        chosen = base.plan(geometry, context)
        weights = chosen.weights * context.root.cosines(geometry).clamp(min=0.0)
        total = float(weights.sum())
        return chosen if total == 0.0 else replace(chosen, weights=weights / total)

    return Rule(name="guarded-multikrum", needs=fewest_updates, plan=plan, needs_root=True)
