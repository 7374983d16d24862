"""What is told of updates that pre-aggregation shrank, behind every rule and beside every other step."""

import pytest
import torch

from fednet.aggregation.rows import TensorRows
from fednet.aggregation.rules.registry import RULES, recipe_named
from fednet.aggregation.strategy import Outcome, UpdateFacts, aggregate
from fednet.config import WorkerName


def one_large(n: int = 11, factor: float = 50.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(1, 200, generator=generator) + 0.3 * torch.randn(n, 200, generator=generator)
    matrix[4] *= factor
    return matrix


def run(matrix: torch.Tensor, recipe: str, *, byzantine: int = 1) -> Outcome:
    return aggregate(
        [UpdateFacts(WorkerName(f"client{i:02}"), 100) for i in range(len(matrix))],
        TensorRows(matrix),
        [{} for _ in matrix],
        recipe=recipe_named(recipe),
        byzantine=byzantine,
        device=torch.device("cpu"),
    )


PLAIN = [name for name in RULES if not recipe_named(name).rule.tries_models and not recipe_named(name).rule.needs_root]


@pytest.mark.parametrize("rule", PLAIN)
def test_every_rule_tells_who_was_clipped_and_how_far(rule: str) -> None:
    matrix = one_large()
    norms = matrix.norm(dim=1)
    outcome = run(matrix, f"norm-clipping+{rule}")
    kept = [each.kept for each in outcome.verdicts]
    expected = (norms.median() / norms).clamp(max=1.0)
    assert kept == pytest.approx(expected.tolist(), rel=1e-5)
    assert kept[4] == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("first", ["norm-clipping", "norm-clipping+nnm", "similarity+norm-clipping", "arc"])
def test_it_is_told_whatever_else_comes_before_the_rule(first: str) -> None:
    outcome = run(one_large(), f"{first}+multikrum")
    kept = outcome.verdicts[4].kept
    assert kept is not None
    assert kept < 0.03


def test_of_two_clippings_what_both_have_left_is_told() -> None:
    outcome = run(one_large(), "norm-clipping+norm-clipping:tau=1+multikrum")
    assert outcome.verdicts[4].kept == pytest.approx(1 / float(one_large()[4].norm()), rel=1e-4)


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        ("norm-clipping:tau=1", 0.1),
        ("norm-clipping:tau=5+norm-clipping:tau=1", 0.1),
        ("norm-clipping:tau=1e30+norm-clipping:tau=1", 0.1),
        ("arc", 1.0),
    ],
)
def test_no_update_is_so_small_beside_others_that_a_clip_misses_it(first: str, kept: float) -> None:
    """The row that distances are measured from is a huge one: what follows from them of a small one's norm is noise."""
    matrix = one_large(n=7, factor=1.0)
    matrix *= torch.tensor([10.0, *[1e10] * 5, 2e10])[:, None] / matrix.norm(dim=1, keepdim=True)
    outcome = run(matrix, f"{first}+fedavg", byzantine=1)
    assert outcome.verdicts[0].kept == pytest.approx(kept, rel=1e-6)


@pytest.mark.parametrize("recipe", ["nnm+norm-clipping:tau=1+multikrum", "bucketing+norm-clipping:tau=1+multikrum"])
def test_of_mixed_updates_nobody_can_be_named(recipe: str) -> None:
    outcome = run(one_large(), recipe)
    assert {each.kept for each in outcome.verdicts} == {None}
    assert "mixed updates were shrunk, one to" in outcome.note


def test_where_nothing_clips_nothing_is_told() -> None:
    assert {each.kept for each in run(one_large(), "nnm+multikrum").verdicts} == {None}
    assert run(one_large(factor=1.0), "norm-clipping:tau=1e6+multikrum").verdicts[4].kept == 1.0


def test_one_that_was_clipped_hard_counts_as_much_as_the_others() -> None:
    outcome = run(one_large(), "norm-clipping+fedavg", byzantine=0)
    assert all(each.selected for each in outcome.verdicts), "its direction moves the step as far as anybody's"
