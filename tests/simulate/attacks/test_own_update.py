import math

import pytest
import torch

from fednet.simulate.attacks.own_update import free_rider, gaussian, inf, nan, noise, scaling, sign_flip, zero
from fednet.simulate.attacks.sight import Attack
from tests.simulate.attacks.sights import WIDTH, deltas, sent, sight, sight_of, stacked


def test_sign_flip_is_minus_four_times_the_update() -> None:
    seen = sight()
    assert torch.equal(sent(sign_flip("sign-flip"), seen), -4 * stacked(seen.own).float())
    assert torch.equal(sent(sign_flip("sign-flip", scale=1.0), seen), -stacked(seen.own).float())


def test_scaling_is_ten_times_the_update() -> None:
    seen = sight()
    assert torch.equal(sent(scaling("scaling"), seen), 10 * stacked(seen.own).float())


def test_zero_sends_nothing_learned() -> None:
    assert not sent(zero("zero"), sight()).any()


@pytest.mark.parametrize(("attack", "value"), [(nan("nan"), math.nan), (inf("inf"), math.inf)])
def test_one_coordinate_in_the_middle_is_not_finite(attack: Attack, value: float) -> None:
    seen = sight()
    poisoned, honest = sent(attack, seen), stacked(seen.own).float()
    assert all(str(float(row[WIDTH // 2])) == str(value) for row in poisoned)
    assert int((poisoned == honest).sum()) == honest.numel() - len(honest)


def test_noise_is_four_times_as_large_and_points_nowhere() -> None:
    seen = sight_of([], deltas(2, width=5000), seed=1)
    drawn, honest = sent(noise("noise"), seen), stacked(seen.own).float()
    assert (drawn.norm(dim=1) / honest.norm(dim=1)).tolist() == pytest.approx([4, 4], rel=1e-4)
    assert float(torch.cosine_similarity(drawn, honest).abs().max()) < 0.1
    assert abs(float(torch.cosine_similarity(drawn[0], drawn[1], dim=0))) < 0.1, "each attacker draws its own"


def test_the_same_generator_draws_the_same_noise() -> None:
    assert torch.equal(sent(noise("noise"), sight(seed=3)), sent(noise("noise"), sight(seed=3)))


def test_a_free_rider_sends_a_tenth_of_what_training_gives() -> None:
    seen = sight()
    assert (sent(free_rider("free-rider"), seen).norm(dim=1) / stacked(seen.own).norm(dim=1)).tolist() == pytest.approx(
        [0.1] * 3, rel=1e-4
    )


def test_a_free_rider_without_noise_resends_the_global_model() -> None:
    assert not sent(free_rider("free-rider", noise=0.0), sight()).any()


def test_counts_and_statistics_stay_the_workers_own() -> None:
    seen = sight()
    assert [each.samples for each in sign_flip("sign-flip").poison(seen)] == [each.samples for each in seen.own]
    assert [each.buffers for each in sign_flip("sign-flip").poison(seen)] == [each.buffers for each in seen.own]


def test_a_direction_without_coordinates_has_no_norm() -> None:
    assert gaussian(torch.zeros(0), norm=1.0, generator=torch.Generator()).shape == (0,)
