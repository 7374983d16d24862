from collections.abc import Sequence

import pytest
import torch

from fednet.reporting.gains import ALONE, GLOBAL, TUNED, Standing, mean_of, standing, thin_classes
from fednet.reporting.intervals import Outputs
from tests.reporting.outputs import CLASSES, outputs_of

EACH = (10, 10, 10, 10)


def answering(labels: torch.Tensor, *, right: int) -> Outputs:
    """A model that answers the first `right` scans rightly, and all others with the next class."""
    answers = torch.where(torch.arange(len(labels)) < right, labels, (labels + 1) % len(CLASSES))
    return outputs_of(5.0 * torch.eye(len(CLASSES), dtype=torch.float64)[answers], labels)


def labels_of(counts: Sequence[int]) -> torch.Tensor:
    """Labels with so many of each class, mixed."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def stood(counts: Sequence[int], *, present: Sequence[int], right: tuple[int, int, int]) -> Standing:
    labels = labels_of(counts)
    outputs = {kind: answering(labels, right=each) for kind, each in zip((ALONE, GLOBAL, TUNED), right, strict=True)}
    return standing(outputs, classes=CLASSES, present=present, resamples=100)


def test_gains_are_what_neighbouring_models_differ_by() -> None:
    found = stood(EACH, present=(60, 60, 60, 60), right=(20, 30, 28))
    assert found.images == 40
    assert [each.accuracy for each in found.scores.values()] == [0.5, 0.75, 0.7]
    joined, tuned = found.gains["global_less_alone"], found.gains["tuned_less_global"]
    assert joined.accuracy.value == pytest.approx(0.25)
    assert 0 < joined.accuracy.low < 0.25 < joined.accuracy.high
    assert tuned.accuracy.value == pytest.approx(-0.05)
    alone, joint = found.scores[ALONE].macro_f1, found.scores[GLOBAL].macro_f1
    assert alone is not None
    assert joint is not None
    assert joined.macro_f1 is not None
    assert joined.macro_f1.value == pytest.approx(joint - alone)


@pytest.mark.parametrize(
    ("counts", "present", "thin"),
    [
        (EACH, (60, 60, 60, 60), []),
        ((10, 5, 10, 0), (60, 30, 60, 0), []),
        ((10, 4, 10, 10), (60, 30, 60, 60), [1]),
        ((10, 0, 10, 10), (60, 3, 60, 60), [1]),
    ],
)
def test_a_class_that_a_site_has_and_few_scans_judge_leaves_macro_f1_unsaid(
    counts: tuple[int, ...], present: tuple[int, ...], thin: list[int]
) -> None:
    assert thin_classes(labels_of(counts), present) == thin
    found = stood(counts, present=present, right=(5, 10, 15))
    assert all((each.macro_f1 is None) == bool(thin) for each in found.scores.values())
    assert all((each.macro_f1 is None) == bool(thin) for each in found.gains.values())
    assert found.scores[TUNED].accuracy == 15 / sum(counts)


def test_means_are_over_the_sites_where_a_figure_is_known_and_sites_count_alike() -> None:
    large = stood(EACH, present=EACH, right=(10, 20, 30))
    small = stood((4, 2, 2, 2), present=EACH, right=(5, 10, 10))
    found = mean_of([large, small])
    assert found is not None
    assert found.sites == {"accuracy": 2, "macro_f1": 1}
    assert found.scores[ALONE]["accuracy"] == pytest.approx((0.25 + 0.5) / 2)
    assert found.scores[ALONE]["macro_f1"] == large.scores[ALONE].macro_f1
    assert found.gains["global_less_alone"]["accuracy"] == pytest.approx((0.25 + 0.5) / 2)
    nothing_known = mean_of([small])
    assert nothing_known is not None
    assert nothing_known.gains["tuned_less_global"] == {"accuracy": pytest.approx(0.0), "macro_f1": None}
    assert mean_of([]) is None
