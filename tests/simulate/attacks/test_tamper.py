import click
import pytest
import torch

from fednet.commands.worker import join
from fednet.errors import BadInput
from fednet.simulate.attacks import ATTACKS, attack_named
from fednet.simulate.attacks.tamper import is_for_one_worker, tamper_named
from fednet.tensors import empty_flat, parameters_of, views
from tests.federation import manifest

OFFERED = ["sign-flip", "scaling", "noise", "zero", "nan", "inf", "free-rider", "bn-stats"]


def update() -> torch.Tensor:
    flat = empty_flat(manifest())
    parameters_of(flat, manifest()).copy_(torch.arange(manifest().parameter_count) / 100)
    views(flat, manifest())["features.1.running_var"].fill_(4.0)
    return flat


def poisoned(name: str) -> torch.Tensor:
    return parameters_of(tamper_named(name, seed=1)(update(), manifest()), manifest())


def test_sign_flip_is_minus_four_times_the_update() -> None:
    assert torch.equal(poisoned("sign-flip"), -4 * parameters_of(update(), manifest()))


def test_noise_is_four_times_as_large_and_points_nowhere() -> None:
    honest, noise = parameters_of(update(), manifest()), poisoned("noise")
    assert float(noise.norm() / honest.norm()) == pytest.approx(4, rel=1e-4)
    assert abs(float(torch.cosine_similarity(noise, honest, dim=0))) < 0.3


def test_noise_goes_on_from_round_to_round() -> None:
    tamper = tamper_named("noise", seed=1)
    assert not torch.equal(tamper(update(), manifest()), tamper(update(), manifest()))


def test_nan_is_in_one_coordinate() -> None:
    assert int(poisoned("nan").isnan().sum()) == 1


def test_statistics_reach_the_flat_update() -> None:
    sent = views(tamper_named("bn-stats", seed=0)(update(), manifest()), manifest())
    assert set(sent["features.1.running_var"].tolist()) == {400.0}
    assert set(sent["features.1.running_mean"].tolist()) == {20.0}
    assert torch.equal(poisoned("bn-stats"), parameters_of(update(), manifest()))


@pytest.mark.parametrize("name", OFFERED)
def test_the_honest_update_is_not_changed(name: str) -> None:
    honest = update()
    tamper_named(name, seed=1)(honest, manifest())
    assert torch.equal(honest, update())


def test_parameters_can_be_given() -> None:
    assert torch.equal(poisoned("sign-flip:scale=2"), -2 * parameters_of(update(), manifest()))


def test_an_unknown_attack_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="sign-flip, scaling, noise"):
        tamper_named("magic", seed=0)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in OFFERED])
def test_what_needs_more_than_an_own_update_is_for_simulate_only(name: str) -> None:
    with pytest.raises(BadInput, match=r"`simulate` only.*sign-flip, scaling, noise, zero, nan, inf, free-rider, bn"):
        tamper_named(name, seed=0)


def test_the_commands_help_names_what_a_worker_can_play() -> None:
    assert [name for name in ATTACKS if is_for_one_worker(attack_named(name))] == OFFERED
    [option] = [each for each in join.params if each.name == "attack"]
    assert isinstance(option, click.Option)
    assert f"({', '.join(OFFERED)})" in (option.help or "")
