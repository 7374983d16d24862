import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.aggregation.private import claim_of, mechanism_of, private_recipe, require_no_buffers
from fednet.aggregation.rows import TensorRows
from fednet.aggregation.rules.registry import MIXINGS, RULES, recipe_named
from fednet.aggregation.strategy import Outcome, UpdateFacts, aggregate
from fednet.config import ClientPrivacySettings, WorkerName
from fednet.errors import BadInput
from tests.federation import manifest
from tests.worker.fakes import tiny_net

PRIVACY = ClientPrivacySettings(clip=1.5, noise=1.0)


def updates(n: int, d: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def run(matrix: torch.Tensor, *, rule: str = "fedavg", byzantine: int = 0, workers: int | None = None) -> Outcome:
    recipe = private_recipe(recipe_named(rule), PRIVACY, workers=workers or len(matrix))
    return aggregate(
        [
            UpdateFacts(WorkerName(f"client{i:02}"), claim_of(100 * (i + 1), is_private=True))
            for i in range(len(matrix))
        ],
        TensorRows(matrix),
        [{} for _ in matrix],
        recipe=recipe,
        byzantine=byzantine,
        device=torch.device("cpu"),
    )


def test_fedavg_is_the_even_average_of_clipped_updates() -> None:
    matrix = updates(5)
    matrix[0] *= 1e-3
    clipped = matrix * (1.5 / matrix.norm(dim=1, keepdim=True)).clamp(max=1.0)
    outcome = run(matrix)
    assert torch.allclose(outcome.step, clipped.mean(dim=0), rtol=2e-3, atol=1e-6)
    assert [each.weight for each in outcome.verdicts] == pytest.approx([0.2] * 5), "whatever the others sent"
    kept = [each.kept for each in outcome.verdicts]
    assert kept[0] == 1.0
    assert kept[1] == pytest.approx(1.5 / float(matrix[1].norm()), rel=2e-3)


def test_who_is_absent_adds_nothing_and_moves_nobody_else() -> None:
    matrix = updates(5)
    assert torch.allclose(run(matrix[:3], workers=5).step * 5, run(matrix[:3], workers=3).step * 3, atol=1e-6)


def test_an_update_that_is_not_finite_counts_as_nothing() -> None:
    matrix = updates(4)
    matrix[3, 0] = torch.nan
    assert torch.allclose(run(matrix).step, run(matrix[:3], workers=4).step)


def test_no_update_decides_whether_another_counts() -> None:
    matrix = updates(3)
    matrix[2] *= 1e4  # absurd beside the median, which is the others' to choose
    assert [each.selected for each in run(matrix).verdicts] == [True, True, True]


def test_no_others_however_large_switch_a_clip_off() -> None:
    matrix = updates(3)
    matrix *= torch.tensor([10.0, 1e10, 1e10])[:, None] / matrix.norm(dim=1, keepdim=True)
    matrix[2] = matrix[1] * 1.5  # the middle row, from which a geometry measures, is huge too
    before, without = run(matrix), run(torch.cat([matrix[:1] * 0, matrix[1:]]))
    assert next(each.kept for each in before.verdicts if each.norm < 11) == pytest.approx(0.15, rel=2e-3)
    assert (before.step - without.step).norm() <= 2 * 1.5 / 3


@settings(max_examples=60, deadline=None)
@given(
    rule=st.sampled_from(["fedavg", "krum", "multikrum"]),
    n=st.integers(5, 9),
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
    who=st.integers(0, 4),
    present=st.booleans(),
)
def test_one_hospital_moves_a_step_by_its_sensitivity_at_most(
    rule: str, n: int, seed: int, sizes: tuple[float, float], who: int, present: bool
) -> None:
    byzantine = 0 if rule == "fedavg" else 1
    before, after = updates(n, d=8, seed=seed), updates(n, d=8, seed=seed)
    before[who] = sizes[0] * updates(1, d=8, seed=seed + 1)[0]
    after[who] = sizes[1] * updates(1, d=8, seed=seed + 2)[0]
    if not present:
        after = after[torch.arange(n) != who] if rule == "fedavg" else after
    moved = (
        run(after, rule=rule, byzantine=byzantine, workers=n).step - run(before, rule=rule, byzantine=byzantine).step
    )
    assert float(moved.double().norm()) <= mechanism_of(rule, PRIVACY, workers=n).sensitivity


def test_the_sensitivity_of_krum_is_reached() -> None:
    """Two camps as far apart as the clip allows, and one hospital that decides between them: C/m would be a lie."""
    camps = torch.zeros(7, 4)
    camps[:3, 0], camps[3:6, 0] = 10.0, -10.0
    one, other = camps.clone(), camps.clone()
    one[6, 0], other[6, 0] = 10.0, -10.0
    moved = run(one, rule="krum", byzantine=2).step - run(other, rule="krum", byzantine=2).step
    assert float(moved.norm()) > 0.99 * mechanism_of("krum", PRIVACY, workers=7).sensitivity


def test_noise_and_what_is_accounted() -> None:
    average, krum = (mechanism_of(rule, PRIVACY, workers=10) for rule in ("fedavg", "krum"))
    assert (average.deviation, average.sensitivity, average.multiplier) == pytest.approx((0.15, 0.3, 0.5))
    assert (krum.deviation, krum.sensitivity, krum.multiplier) == pytest.approx((3.0, 3.0, 1.0))


def test_a_verdict_tells_nothing_of_the_others_values() -> None:
    matrix = updates(7)
    matrix[0] *= -3
    for verdict in run(matrix, rule="multikrum", byzantine=2).verdicts:
        assert verdict.score is verdict.cosine is None
        assert not any(character.isdigit() for character in verdict.reason)


@pytest.mark.parametrize("rule", [name for name in RULES if name not in ("fedavg", "krum", "multikrum")])
def test_other_rules_are_refused_with_the_reason(rule: str) -> None:
    with pytest.raises(BadInput, match="how far one hospital moves"):
        private_recipe(recipe_named(rule), PRIVACY, workers=7)


@pytest.mark.parametrize("pre", [*MIXINGS, "similarity"])
@pytest.mark.parametrize("rule", ["fedavg", "krum"])
def test_nothing_may_come_before_the_rule(rule: str, pre: str) -> None:
    with pytest.raises(BadInput, match=pre):
        private_recipe(recipe_named(rule, [pre]), PRIVACY, workers=7)


def test_without_a_clip_a_recipe_stays_as_it_is() -> None:
    recipe = recipe_named("nnm+multikrum")
    assert private_recipe(recipe, ClientPrivacySettings(), workers=7) is recipe


def test_a_model_with_batch_norm_is_refused() -> None:
    with pytest.raises(BadInput, match="resnet18-gn"):
        require_no_buffers(manifest(tiny_net()), model="tiny")


def test_a_worker_that_claims_no_sample_still_does() -> None:
    assert [claim_of(samples, is_private=True) for samples in (0, 1, 5000)] == [0, 1, 1]
    assert claim_of(5000, is_private=False) == 5000
