"""Multi-Krum: the weighted average of the m = n - f updates of the least Krum scores.

Source: as Krum (Blanchard et al. 2017, section 5). Condition: n >= 2f + 3.
"""

from __future__ import annotations

import torch

from fednet.aggregation.rules.krum import krum_scores, ranking
from fednet.aggregation.rules.rule import Context, Rule, Selection
from fednet.config import fewest_updates


def _select(distances: torch.Tensor, context: Context) -> Selection:
    scores = krum_scores(distances, context.byzantine)
    kept = distances.shape[0] - context.byzantine
    return Selection(tuple(ranking(scores)[:kept]), scores)


MULTIKRUM = Rule("multikrum", fewest_updates, _select)
