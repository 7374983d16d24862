import torch

from fednet.aggregation.rules.fedavg import FEDAVG
from fednet.aggregation.rules.rule import Context


def test_it_takes_everybody_and_scores_nobody() -> None:
    selection = FEDAVG.select(torch.zeros(3, 3), Context(0))
    assert selection.selected == (0, 1, 2)
    assert selection.scores is None
