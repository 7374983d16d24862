import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fednet.aggregation.rows import TensorRows
from fednet.aggregation.rules.registry import recipe_named
from fednet.aggregation.rules.rule import capped_weights
from fednet.aggregation.strategy import Outcome, UpdateFacts, aggregate
from fednet.config import WorkerName
from fednet.errors import AggregationError

CPU = torch.device("cpu")


def honest(n: int, d: int = 400, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, d, generator=generator) + 0.3 * torch.randn(n, d, generator=generator)


def run(
    matrix: torch.Tensor,
    *,
    rule: str = "multikrum",
    byzantine: int = 1,
    samples: list[int] | None = None,
    buffers: list[dict[str, torch.Tensor]] | None = None,
    order: list[int] | None = None,
) -> Outcome:
    n = len(matrix)
    order = order or list(range(n))
    facts = [UpdateFacts(WorkerName(f"client{i}"), (samples or [100] * n)[i]) for i in range(n)]
    buffers = buffers or [{} for _ in range(n)]
    return aggregate(
        [facts[i] for i in order],
        TensorRows(matrix[order]),
        [buffers[i] for i in order],
        recipe=recipe_named(rule),
        byzantine=byzantine,
        device=CPU,
    )


def selected(outcome: Outcome) -> list[str]:
    return [verdict.worker for verdict in outcome.verdicts if verdict.selected]


def test_a_sign_flipped_update_of_four_times_the_size_is_rejected_and_described() -> None:
    matrix = honest(5)
    matrix[2] *= -4
    outcome = run(matrix)
    assert selected(outcome) == ["client0", "client1", "client3", "client4"]
    assert "points away from them (cosine -0.9" in outcome.verdicts[2].reason
    assert torch.allclose(outcome.step, matrix[[0, 1, 3, 4]].mean(dim=0), atol=1e-6)


def test_krum_takes_one_update_as_it_is() -> None:
    matrix = honest(5)
    outcome = run(matrix, rule="krum")
    chosen = selected(outcome)
    assert len(chosen) == 1
    assert torch.equal(outcome.step, matrix[int(chosen[0].removeprefix("client"))])


def test_fedavg_weighs_by_samples() -> None:
    matrix = honest(3)
    outcome = run(matrix, rule="fedavg", byzantine=0, samples=[100, 100, 200])
    assert torch.allclose(outcome.step, (matrix[0] + matrix[1] + 2 * matrix[2]) / 4, atol=1e-6)


def test_a_claim_of_a_million_samples_buys_a_bounded_weight() -> None:
    claims = torch.tensor([100, 100, 1e6, 100], dtype=torch.float64)
    assert capped_weights(claims, (0, 1, 2, 3)).tolist() == [
        0.2,
        0.2,
        0.4,
        0.2,
    ]


def test_nan_in_one_coordinate_is_rejected_by_name_and_lowers_n_and_f() -> None:
    matrix = honest(5)
    matrix[1, 7] = math.nan
    outcome = run(matrix)
    assert selected(outcome) == ["client0", "client2", "client3", "client4"]
    assert outcome.byzantine_effective == 0
    assert "not finite" in outcome.verdicts[1].reason
    assert outcome.step.isfinite().all()


def test_a_nan_never_lets_an_attacker_in() -> None:
    matrix = honest(7)
    matrix[0, 0] = math.nan
    matrix[5] *= -4
    assert selected(run(matrix, byzantine=2)) == ["client1", "client2", "client3", "client4", "client6"]


def test_more_faulty_updates_than_f_fail_the_round_and_are_named() -> None:
    matrix = honest(5)
    matrix[1, 0] = matrix[3, 0] = math.nan
    with pytest.raises(AggregationError, match="client1, client3"):
        run(matrix)


def test_without_f_a_faulty_update_is_left_out_and_the_rest_averaged() -> None:
    matrix = honest(3)
    matrix[1, 0] = math.inf
    assert selected(run(matrix, byzantine=0)) == ["client0", "client2"]


def test_too_few_updates_for_f_are_not_aggregated() -> None:
    with pytest.raises(AggregationError, match="needs 5 updates for f = 1, there are 4 sound"):
        run(honest(4))


def test_nothing_but_faults_is_not_aggregated() -> None:
    with pytest.raises(AggregationError):
        run(torch.full((2, 3), math.nan), byzantine=0)


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 4, 1, 3]])
def test_the_order_of_arrival_never_changes_a_bit(order: list[int]) -> None:
    matrix = honest(5, d=100_001)
    first, second = run(matrix), run(matrix, order=order)
    assert torch.equal(first.step, second.step)
    assert first.verdicts == second.verdicts


def test_batchnorm_statistics_and_counters_never_move_scores() -> None:
    matrix = honest(5)
    plain = [{"bn.num_batches_tracked": torch.tensor(10), "bn.running_var": torch.ones(3)} for _ in range(5)]
    odd = [dict(each) for each in plain]
    odd[0] = {"bn.num_batches_tracked": torch.tensor(4000), "bn.running_var": 50 * torch.ones(3)}
    first, second = run(matrix, buffers=plain), run(matrix, buffers=odd)
    assert [verdict.score for verdict in first.verdicts] == [verdict.score for verdict in second.verdicts]
    assert torch.equal(second.buffers["bn.running_var"], torch.ones(3))


def test_clean_parameters_with_poisoned_statistics_do_not_pass() -> None:
    buffers = [{"bn.running_var": torch.ones(2)} for _ in range(5)]
    buffers[3] = {"bn.running_var": torch.tensor([1.0, -5.0])}
    outcome = run(honest(5), buffers=buffers)
    assert "client3" not in selected(outcome)


@pytest.mark.parametrize(("rule", "byzantine"), [("krum", 1), ("krum", 2), ("multikrum", 3)])
def test_poisoned_statistics_under_the_best_parameters_stay_outvoted(rule: str, byzantine: int) -> None:
    matrix = honest(2 * byzantine + 3)
    matrix[:byzantine] = matrix[byzantine:].mean(dim=0) + 1e-3 * honest(byzantine, seed=1)
    buffers = [{"bn.running_var": torch.ones(2)} for _ in matrix]
    buffers[:byzantine] = [{"bn.running_var": torch.full((2,), 1e9)}] * byzantine
    outcome = run(matrix, rule=rule, byzantine=byzantine, buffers=buffers)
    assert "client0" in selected(outcome), "the attacker's parameters are the best: this test shows nothing otherwise"
    assert torch.equal(outcome.buffers["bn.running_var"], torch.ones(2))


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-20, 1.0, 1e20, 1e36])
def test_no_size_of_updates_lets_a_sign_flipped_one_pass(scale: float) -> None:
    matrix = honest(7)
    matrix[0] *= -4
    outcome = run(matrix * scale, byzantine=2)
    assert "client0" not in selected(outcome)
    assert outcome.step.isfinite().all()


def brute_force_scores(matrix: torch.Tensor, byzantine: int) -> list[float]:
    """Krum's scores in float64, by a loop over pairs."""
    exact = matrix.double()
    scores = []
    for i in range(len(exact)):
        others = sorted(float((exact[i] - exact[j]).square().sum()) for j in range(len(exact)) if j != i)
        scores.append(sum(others[: max(0, len(exact) - byzantine - 2)]))
    return scores


ADVERSARIAL = {
    "random": honest(7),
    "identical": honest(1).repeat(7, 1),
    "nearly identical": honest(1) + 1e-5 * honest(7, seed=1),
    "one far away": honest(7) * torch.tensor([1.0, 1, 1, 1, 1, 1, 90])[:, None],
    "tiny": 1e-30 * honest(7),
    "denormal": 1e-42 * honest(7),
    "huge": 1e30 * honest(7),
    "one coordinate": honest(7, d=1),
    "zero": torch.zeros(7, 4),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("byzantine", [0, 1, 2])
def test_scores_are_those_of_a_float64_brute_force(name: str, byzantine: int) -> None:
    found = [verdict.score for verdict in run(ADVERSARIAL[name], byzantine=byzantine).verdicts]
    assert found == pytest.approx(brute_force_scores(ADVERSARIAL[name], byzantine), rel=1e-5, abs=0.0)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_krum_of_so_few_is_decided_by_hand(n: int) -> None:
    # n = 1, 2: no neighbour counts, the first name wins. n = 3: 0, 3, 4 score 9, 1, 1; the tie goes to the first name
    assert selected(run(torch.tensor([[0.0], [3.0], [4.0]])[:n], rule="krum", byzantine=0)) == [f"client{n // 3}"]


@given(st.permutations(list(range(7))), st.sampled_from([2.0**-40, 0.5, 1.0, 8.0, 2.0**40]))
@settings(max_examples=30, deadline=None)
def test_neither_order_nor_scale_changes_who_is_selected(order: list[int], scale: float) -> None:
    matrix = honest(7)
    matrix[3] *= -4
    assert selected(run(matrix * scale, byzantine=2, order=order)) == selected(run(matrix, byzantine=2))


@pytest.mark.parametrize("rule", ["krum", "multikrum"])
def test_where_nobody_moved_the_one_who_did_is_told_so(rule: str) -> None:
    matrix = torch.zeros(5, 3)
    matrix[0] = 1e25
    outcome = run(matrix, rule=rule)
    assert "client0" not in selected(outcome)
    assert "changes the model, the selected ones do not" in outcome.verdicts[0].reason


def test_an_update_that_lost_a_tie_is_not_called_worse() -> None:
    reason = run(torch.zeros(5, 3)).verdicts[4].reason
    assert reason == "rejected: its score equals that of the last one selected, and ties go by worker name"


def test_identical_updates_do_not_fool_the_diagonal() -> None:
    matrix = honest(6)
    matrix[4] = matrix[5] = -3 * matrix[0]
    # the twins are each other's nearest at 0, but f + 1 = 2 more neighbours count
    assert selected(run(matrix, byzantine=1))[:4] == ["client0", "client1", "client2", "client3"]


@pytest.mark.parametrize("n", [1, 2, 3])
def test_small_federations_without_tolerance_average_all(n: int) -> None:
    assert len(selected(run(honest(n), byzantine=0))) == n


def test_updates_of_one_coordinate_and_of_zeros_work() -> None:
    assert run(torch.zeros(5, 1)).step.tolist() == [0.0]


def test_weights_of_the_selected_sum_to_one() -> None:
    outcome = run(honest(5), samples=[1, 50, 100, 150, 1000])
    assert sum(verdict.weight for verdict in outcome.verdicts) == pytest.approx(1)
    assert all(verdict.weight == 0 for verdict in outcome.verdicts if not verdict.selected)
