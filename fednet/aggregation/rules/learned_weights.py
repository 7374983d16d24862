"""Learned weights: how much each update counts is fitted on the root scans, by gradient descent in Gram space.

step = sum_i c_i s_i x_i with c on the simplex, started even, s_i = min(1, median norm / |x_i|): no update counts for
more than a usual one, however long. Each turn c_i <- c_i exp(-rate z_i), scaled to sum 1 again, with z the slopes of
the root loss in c, standardised; the best c met wins. A slope is <gradient of the root loss, x_i>: a turn costs two
passes over the root scans and two over the updates (the step, the slopes). Aggregation weights learned on the server's
own data: Li, Lin, Shang, Wu, "Revisiting Weighted Aggregation in Federated Learning with Neural Networks", ICML 2023;
the multiplicative step: Kivinen, Warmuth, "Exponentiated Gradient versus Gradient Descent for Linear Predictors", 1997.
Condition: n >= 2f + 1 and a root of trust (`server_data/root`).
"""

from __future__ import annotations

import math

import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rules.rule import Context, Plan, Rule, more_than_half, single

TURNS = 6
RATE = 0.7


def _plan(geometry: Geometry, context: Context) -> Plan:
    assert context.trial is not None and context.slopes is not None, "checked before the run: needs_root"
    norms = geometry.norms()
    limits = torch.where(norms > 0, (norms.median() / norms).clamp(max=1.0), 1.0)
    shares = torch.full_like(norms, 1.0 / geometry.count)
    best, lowest = single(shares * limits), math.inf
    for turn in range(TURNS + 1):
        tried = single(shares * limits)
        loss = context.trial(tried)
        if loss < lowest:
            best, lowest = tried, loss
        if turn == TURNS or not math.isfinite(loss):
            break
        slopes = context.slopes(tried) * limits
        spread = float(slopes.std(correction=0))
        if spread == 0.0 or not math.isfinite(spread):
            break
        shares = shares * torch.exp(-RATE * (slopes - slopes.mean()) / spread)
        shares = shares / shares.sum()
    return best


def learned_weights() -> Rule:
    """Return the rule."""
    return Rule(name="learned-weights", needs=more_than_half, plan=_plan, needs_root=True, tries_models=True)
