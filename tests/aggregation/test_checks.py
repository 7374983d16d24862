import pytest
import torch

from fednet.aggregation.checks import faults

NORMS = torch.tensor([1.0, 1.1, 0.9], dtype=torch.float64)
SOUND = {"bn.running_mean": torch.zeros(2), "bn.running_var": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}


def only_last(**change: torch.Tensor) -> list[dict[str, torch.Tensor]]:
    return [SOUND, SOUND, SOUND | {name.replace("__", "."): value for name, value in change.items()}]


def test_sound_updates_have_no_fault() -> None:
    assert faults(NORMS, [10, 20, 30], [SOUND] * 3) == [None] * 3


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_is_named(norm: float) -> None:
    found = faults(torch.tensor([1.0, norm, 1.0], dtype=torch.float64), [1, 1, 1], [SOUND] * 3)
    assert found[0] is None and found[2] is None
    assert "not finite" in str(found[1])


def test_a_norm_of_more_than_a_hundred_medians_is_absurd() -> None:
    found = faults(torch.tensor([1.0, 1.0, 101.0], dtype=torch.float64), [1, 1, 1], [SOUND] * 3)
    assert found[:2] == [None, None]
    assert "101 times" in str(found[2])


def test_updates_that_all_are_zero_are_no_fault() -> None:
    assert faults(torch.zeros(3, dtype=torch.float64), [1, 1, 1], [SOUND] * 3) == [None] * 3


def test_the_only_update_that_learned_anything_is_no_fault() -> None:
    assert faults(torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64), [1, 1, 1], [SOUND] * 3) == [None] * 3


def test_norms_that_are_not_finite_do_not_move_the_median() -> None:
    norms = torch.tensor([1.0, float("nan"), float("inf"), 1.0, 99.0], dtype=torch.float64)
    assert [complaint is None for complaint in faults(norms, [1] * 5, [SOUND] * 5)] == [True, False, False, True, True]


def test_a_variance_of_zero_is_what_a_dead_channel_has() -> None:
    assert faults(NORMS, [1, 1, 1], only_last(bn__running_var=torch.tensor([0.0, 1.0]))) == [None] * 3


@pytest.mark.parametrize("claim", [0, -5])
def test_a_claim_of_no_samples_is_a_fault(claim: int) -> None:
    assert "no sample" in str(faults(NORMS, [1, 1, claim], [SOUND] * 3)[2])


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("bn__running_mean", torch.tensor([0.0, float("nan")]), "not finite"),
        ("bn__running_var", torch.tensor([1.0, -1.0]), "negative"),
        ("bn__num_batches_tracked", torch.tensor(-1), "negative"),
    ],
)
def test_poisoned_batchnorm_statistics_are_a_fault(name: str, value: torch.Tensor, complaint: str) -> None:
    found = faults(NORMS, [1, 1, 1], only_last(**{name: value}))
    assert found[:2] == [None, None]
    assert complaint in str(found[2])
