import pytest
import torch

from fednet.aggregation.geometry import Geometry
from fednet.aggregation.rows import TensorRows
from fednet.aggregation.rules.registry import RULES, recipe_named
from fednet.aggregation.similarity import directional_distances, groups_within
from fednet.aggregation.strategy import Outcome, Trust, UpdateFacts, aggregate
from fednet.config import WorkerName
from fednet.errors import AggregationError, BadInput


def honest(n: int, d: int = 400, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, d, generator=generator) + 0.5 * torch.randn(n, d, generator=generator)


def run(
    matrix: torch.Tensor, *, rule: str = "multikrum", pre: str = "similarity", byzantine: int = 2, resent: str = ""
) -> Outcome:
    root = matrix.median(dim=0).values
    return aggregate(
        [UpdateFacts(WorkerName(f"client{i}"), 100) for i in range(len(matrix))],
        TensorRows(matrix),
        [{} for _ in matrix],
        recipe=recipe_named(rule, [pre] if pre else []),
        byzantine=byzantine,
        device=torch.device("cpu"),
        trust=Trust(
            update=root,
            loss=lambda step, buffers: float((step - root).norm()),
            gradient=lambda step, buffers: step - root,
        ),
        resent={WorkerName(resent): "sent again: client1's update of round 3"} if resent else {},
    )


def reasons(outcome: Outcome) -> dict[str, str]:
    return {each.worker: each.reason for each in outcome.verdicts}


@pytest.mark.parametrize("change", ["same", "scaled", "nearly"])
def test_of_copies_one_counts_and_all_are_named(change: str) -> None:
    matrix = honest(9)
    copies = {"same": 1.0, "scaled": 3.0, "nearly": 1.0}[change] * matrix[2].repeat(2, 1)
    noise = torch.randn(2, 400, generator=torch.Generator().manual_seed(5))
    matrix[[5, 7]] = copies + (1e-3 * noise if change == "nearly" else 0)
    outcome = run(matrix)
    found = reasons(outcome)
    assert found["client5"].startswith("rejected before scoring: same update as client2, client7's")
    assert found["client7"].startswith("rejected before scoring: same update as client2, client5's")
    assert "the same update came from client5, client7" in found["client2"]
    assert "client2, client5, client7 sent the same update: one counts" in outcome.note
    assert outcome.scored == tuple(f"client{i}" for i in (0, 1, 2, 3, 4, 6, 8))
    assert outcome.byzantine_effective == 0, "two of the three were not trained, and f was 2"


def test_it_is_as_if_the_copies_had_never_come() -> None:
    matrix = honest(9)
    matrix[[5, 7]] = matrix[2].clone()
    alone = matrix[[0, 1, 2, 3, 4, 6, 8]]
    assert torch.equal(run(matrix).step, run(alone, pre="", byzantine=0).step)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_may_stand_behind_it(rule: str) -> None:
    matrix = honest(11)
    matrix[10] = matrix[0]
    outcome = run(matrix, rule=rule, byzantine=1)
    assert "same update as client0's" in reasons(outcome)["client10"]
    assert torch.isfinite(outcome.step).all()


@pytest.mark.parametrize("pre", ["nnm+multikrum", "norm-clipping+krum", "arc+nnm+trimmed-mean", "bucketing+multikrum"])
def test_it_comes_before_any_mixing_wherever_it_is_named(pre: str) -> None:
    matrix = honest(13)
    matrix[9] = matrix[1]
    first, *rest = pre.split("+")
    outcome = run(matrix, rule="+".join([first, "similarity", *rest]), pre="")
    assert "same update as client1's" in reasons(outcome)["client9"]
    assert torch.equal(outcome.step, run(matrix, rule=pre).step)


def test_more_copies_than_f_are_counted_once_and_said() -> None:
    matrix = honest(9)
    matrix[[4, 5, 6, 7]] = matrix[3].clone()
    outcome = run(matrix)
    assert "copies: 4, more than f = 2" in outcome.note
    assert outcome.byzantine_effective == 0


def test_not_even_copies_alone_are_all_rejected() -> None:
    outcome = run(honest(1).repeat(5, 1), byzantine=0)
    assert [each.selected for each in outcome.verdicts] == [True, False, False, False, False]


def test_copies_of_copies_are_one_group() -> None:
    distances = torch.tensor([[0.0, 0.1, 0.2, 9.0], [0.1, 0.0, 0.1, 9.0], [0.2, 0.1, 0.0, 9.0], [9.0, 9.0, 9.0, 0.0]])
    assert groups_within(distances, 0.15) == [[0, 1, 2]]


def test_the_distance_is_that_of_the_directions() -> None:
    matrix = honest(6)
    matrix[3] *= 50
    unit = torch.nn.functional.normalize(matrix.double(), dim=1)
    assert torch.allclose(directional_distances(Geometry.of(matrix)), torch.cdist(unit, unit), atol=1e-6)


def test_updates_of_nothing_and_an_opposite_update_are_no_copies() -> None:
    matrix = honest(9)
    matrix[[1, 2]] = 0.0
    matrix[3] = -matrix[4]
    assert all("same update" not in reason for reason in reasons(run(matrix)).values())


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_named_among_updates_that_are_alike_but_trained(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(1, 5000, generator=generator) + 0.05 * torch.randn(12, 5000, generator=generator)
    assert run(matrix).note == ""


def test_what_was_sent_in_a_round_before_is_faulty() -> None:
    outcome = run(honest(9), resent="client4")
    assert reasons(outcome)["client4"] == "rejected before scoring: sent again: client1's update of round 3"
    assert outcome.byzantine_effective == 1
    with pytest.raises(AggregationError, match="f = 2"):
        matrix = honest(9)
        matrix[[0, 1], 0] = torch.nan
        run(matrix, resent="client4")


@pytest.mark.parametrize("within", ["0", "0.0001", "0.6", "-1"])
def test_a_distance_that_rounding_decides_is_refused(within: str) -> None:
    with pytest.raises(BadInput, match="within of similarity"):
        recipe_named("krum", [f"similarity:within={within}"])


def test_the_distance_can_be_chosen() -> None:
    matrix = honest(9)
    matrix[8] = matrix[0] + 0.03 * matrix[1]
    assert run(matrix).note == ""
    assert "client0, client8" in run(matrix, pre="similarity:within=0.2").note
