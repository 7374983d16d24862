"""FedAvg: the average of all updates, weighted by samples. Tolerates no malicious worker.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017.
Condition: n >= 1.
"""

from __future__ import annotations

import torch

from fednet.aggregation.rules.rule import Context, Rule, Selection


def _needs(byzantine: int) -> int:
    return 1


def _select(distances: torch.Tensor, context: Context) -> Selection:
    return Selection(tuple(range(distances.shape[0])), None)


FEDAVG = Rule("fedavg", _needs, _select)
