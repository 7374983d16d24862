import pytest
import torch
from opacus import PrivacyEngine
from opacus.accountants.utils import get_noise_multiplier
from torch.utils.data import DataLoader, TensorDataset

from fednet.config import TrainingSettings
from fednet.worker.privacy_accounting import epsilon_of, noise_multiplier_for
from fednet.worker.privacy_ledger import SiteMechanism, rate_and_steps
from tests.worker.private_sites import group_net

DELTA = 1e-5


def mechanism(noise: float = 1.0, rate: float = 0.1, steps: int = 30) -> SiteMechanism:
    return SiteMechanism(noise_multiplier=noise, sample_rate=rate, steps=steps)


@pytest.mark.filterwarnings("ignore:Secure RNG turned off", "ignore:Full backward hook is firing")
@pytest.mark.filterwarnings("ignore:Optimal order is the")
def test_epsilon_is_that_of_opacus_own_engine_for_the_same_schedule() -> None:
    samples, batch_size, epochs = 40, 8, 3
    engine = PrivacyEngine(accountant="rdp")
    model = group_net()
    network, optimiser, loader = engine.make_private(
        module=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        data_loader=DataLoader(
            TensorDataset(torch.randn(samples, 3, 8, 8), torch.zeros(samples).long()), batch_size=batch_size
        ),
        noise_multiplier=1.1,
        max_grad_norm=1.0,
    )
    for _ in range(epochs):
        for images, labels in loader:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    rate, steps = rate_and_steps(samples, TrainingSettings(batch_size=batch_size, local_epochs=epochs))
    assert (rate, steps) == (batch_size / samples, 15)
    assert epsilon_of([mechanism(1.1, rate, steps)], delta=DELTA) == engine.get_epsilon(DELTA)


def test_rounds_add_up_to_one_long_training_and_unlike_ones_compose() -> None:
    assert epsilon_of([mechanism(steps=10)] * 3, delta=DELTA) == epsilon_of([mechanism()], delta=DELTA)
    apart = [epsilon_of([each], delta=DELTA) for each in (mechanism(1.0), mechanism(2.0, 0.2))]
    both = epsilon_of([mechanism(1.0), mechanism(2.0, 0.2)], delta=DELTA)
    assert max(apart) < both < sum(apart)
    assert epsilon_of([], delta=DELTA) == 0.0


@pytest.mark.filterwarnings("ignore:Optimal order is the")
def test_the_noise_is_what_opacus_finds_for_a_fresh_budget() -> None:
    found = noise_multiplier_for(0.05, 200, epsilon=3.0, delta=DELTA)
    theirs = get_noise_multiplier(target_epsilon=3.0, target_delta=DELTA, sample_rate=0.05, steps=200)
    assert found is not None
    assert found == pytest.approx(theirs, rel=0.01)
    assert 2.98 < epsilon_of([mechanism(found, 0.05, 200)], delta=DELTA) <= 3.0


def test_what_was_spent_before_leaves_less_and_makes_more_noise() -> None:
    before = [mechanism(2.0, 0.05, 100)]
    fresh = noise_multiplier_for(0.05, 200, epsilon=3.0, delta=DELTA)
    later = noise_multiplier_for(0.05, 200, epsilon=3.0, delta=DELTA, before=before)
    assert fresh is not None and later is not None and later > fresh
    assert epsilon_of([*before, mechanism(later, 0.05, 200)], delta=DELTA) <= 3.0


def test_where_nothing_is_left_no_noise_is_enough() -> None:
    assert noise_multiplier_for(0.1, 30, epsilon=1.0, delta=DELTA, before=[mechanism(0.5)]) is None


@pytest.mark.parametrize(
    ("samples", "epochs", "expected"),
    [(100, 1, (0.08, 13)), (100, 0.5, (0.08, 6)), (72, 0.125, (1 / 9, 1)), (5, 2, (1.0, 2)), (8, 0, (1.0, 0))],
)
def test_an_epoch_has_as_many_steps_as_without_privacy(
    samples: int, epochs: float, expected: tuple[float, int]
) -> None:
    assert rate_and_steps(samples, TrainingSettings(batch_size=8, local_epochs=epochs)) == expected
