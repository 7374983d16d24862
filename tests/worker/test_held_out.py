from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fednet.reporting.metrics import evaluate
from fednet.worker.held_out import HeldOut, confusion_of
from tests.worker.fakes import TinyData, tiny_net

CLASSES = ("dark", "bright")


class Answers(nn.Module):
    """Answers what stands in the first pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 2).float()


class Scans:
    """Samples of these true classes, which are taken for those."""

    def __init__(self, *pairs: tuple[int, int]) -> None:
        self._labels = torch.tensor([label for label, _ in pairs])
        self._images = torch.tensor([answer for _, answer in pairs]).float().view(-1, 1, 1, 1).expand(-1, 3, 4, 4)

    def in_order(self, *, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield self._images, self._labels


def held_out(data: TinyData | Scans, notices: list[str], *, is_shared: bool) -> HeldOut:
    return HeldOut(data, classes=CLASSES, is_shared=is_shared, notice=notices.append)


def never() -> bool:
    return False


@pytest.mark.parametrize("ruin", [None, float("nan"), float("inf")])
def test_the_counts_are_those_of_every_other_evaluation(ruin: float | None) -> None:
    model, data = tiny_net(seed=3), TinyData(150, seed=7)
    if ruin is not None:
        with torch.no_grad():
            model.fc.bias.fill_(ruin)
    found = confusion_of(model, data, classes=2, should_stop=never)
    assert found == evaluate(model, data, classes=CLASSES).confusion


def test_what_is_shared_is_counts_and_what_is_shown_here_is_all() -> None:
    notices: list[str] = []
    pairs = [(0, 0)] * 6 + [(0, 1)] * 2 + [(1, 1)] * 5
    judge = held_out(Scans(*pairs), notices, is_shared=True)
    assert judge.judge(Answers(), round_number=3, should_stop=never) == (6, 2, 0, 5)
    assert len(notices) == 1
    assert notices[0].startswith(
        "round 3: the model it begins with, on 13 scans held out here: accuracy 0.846, macro F1 0.845 ("
    )


def test_without_the_hospitals_word_nothing_leaves_it() -> None:
    notices: list[str] = []
    pairs = [(0, 0)] * 6 + [(1, 1)] * 6
    assert held_out(Scans(*pairs), notices, is_shared=False).judge(Answers(), round_number=1, should_stop=never) == ()
    assert "accuracy 1.000" in notices[0]


def test_a_class_of_few_scans_is_kept_back_and_said_so() -> None:
    notices: list[str] = []
    judge = held_out(Scans(*[(0, 0)] * 5, *[(1, 0)] * 4), notices, is_shared=True)
    assert judge.judge(Answers(), round_number=1, should_stop=never) == (5, 0, 0, 0)
    assert "on 9 scans" in notices[0]
    assert notices[1] == "not told to the coordinator: bright, fewer than 5 scans held out"


def test_where_every_class_is_small_nothing_is_told() -> None:
    judge = held_out(Scans(*[(0, 0)] * 4, *[(1, 0)] * 4), [], is_shared=True)
    assert judge.judge(Answers(), round_number=1, should_stop=never) == ()


def test_a_worker_that_is_stopped_does_not_judge_to_the_end() -> None:
    notices: list[str] = []
    stops = iter([False, True])
    judge = held_out(TinyData(200), notices, is_shared=True)
    assert judge.judge(tiny_net(), round_number=1, should_stop=lambda: next(stops)) is None
    assert notices == []
