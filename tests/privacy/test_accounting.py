import warnings

import pytest
from opacus.accountants import RDPAccountant

from fednet.privacy.accounting import affordable, epsilon_after


@pytest.mark.parametrize("rounds", [1, 3, 50])
@pytest.mark.parametrize("multiplier", [0.7, 1.0, 4.0])
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_it_is_what_opacus_accounts_step_by_step(rounds: int, multiplier: float, delta: float) -> None:
    accountant = RDPAccountant()
    for _ in range(rounds):
        accountant.step(noise_multiplier=multiplier, sample_rate=1.0)
    assert epsilon_after(rounds, multiplier=multiplier, delta=delta) == accountant.get_epsilon(delta)


def test_nothing_is_spent_by_no_round() -> None:
    assert epsilon_after(0, multiplier=1.0, delta=1e-5) == 0.0


@pytest.mark.parametrize("multiplier", [0.005, 0.05, 100.0, 5000.0])
def test_very_little_and_very_much_noise_is_accounted_too(multiplier: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accountant = RDPAccountant()
        accountant.step(noise_multiplier=multiplier, sample_rate=1.0)
        usual = accountant.get_epsilon(1e-5)
    assert 0 < epsilon_after(1, multiplier=multiplier, delta=1e-5) <= usual


def test_as_many_rounds_as_fit() -> None:
    settings = {"multiplier": 2.0, "delta": 1e-5}
    rounds = affordable(8.0, most=100, **settings)
    assert epsilon_after(rounds, **settings) <= 8.0 < epsilon_after(rounds + 1, **settings)
    assert affordable(0.01, most=100, **settings) == 0
    assert affordable(1000.0, most=7, **settings) == 7
