import pytest
import torch

from fednet.errors import BadInput
from fednet.simulate.attacks import attack_named
from fednet.tensors import empty_flat, parameters_of
from tests.federation import manifest


def update() -> torch.Tensor:
    flat = empty_flat(manifest())
    parameters_of(flat, manifest()).copy_(torch.arange(manifest().parameter_count) / 100)
    return flat


def poisoned(name: str) -> torch.Tensor:
    return parameters_of(attack_named(name, seed=1)(update(), manifest()), manifest())


def test_sign_flip_is_minus_four_times_the_update() -> None:
    assert torch.equal(poisoned("sign-flip"), -4 * parameters_of(update(), manifest()))


def test_noise_is_four_times_as_large_and_points_nowhere() -> None:
    honest, noise = parameters_of(update(), manifest()), poisoned("noise")
    assert float(noise.norm() / honest.norm()) == pytest.approx(4, rel=1e-4)
    assert abs(float(torch.cosine_similarity(noise, honest, dim=0))) < 0.3


def test_nan_is_in_one_coordinate() -> None:
    assert int(poisoned("nan").isnan().sum()) == 1


@pytest.mark.parametrize("name", ["sign-flip", "noise", "nan"])
def test_the_honest_update_is_not_changed(name: str) -> None:
    honest = update()
    attack_named(name, seed=1)(honest, manifest())
    assert torch.equal(honest, update())


def test_an_unknown_attack_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="sign-flip, noise, nan"):
        attack_named("magic", seed=0)
