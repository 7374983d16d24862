import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from fednet.aggregation.server_optimizer import FRESH, ServerState, fitted, lost_by_sites, server_step, state_from
from fednet.aggregation.strategy import Verdict
from fednet.config import ClientPrivacySettings, RunSettings, ServerSettings, TrainingSettings, WorkerName
from fednet.errors import ModelError

STEPS = [torch.randn(5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


def taken(settings: ServerSettings) -> list[torch.Tensor]:
    """Return what the model moves by in each round."""
    state, found = FRESH, []
    for step in STEPS:
        moved, state = server_step(step, state, settings)
        found.append(moved)
    return found


def moved_by_torch(optimiser_of: type[torch.optim.Optimizer], **options: Any) -> list[torch.Tensor]:
    """Return what torch's optimiser moves a parameter by when each step is taken for a negative gradient."""
    parameter = torch.nn.Parameter(torch.zeros(5))
    optimiser, found = optimiser_of([parameter], **options), []
    for step in STEPS:
        before, parameter.grad = parameter.detach().clone(), -step
        optimiser.step()
        found.append(parameter.detach() - before)
    return found


def test_without_an_optimiser_the_step_is_taken_as_it_is() -> None:
    moved, state = server_step(STEPS[0], FRESH, ServerSettings())
    assert moved is STEPS[0]
    assert not state.moments


def test_momentum_is_torchs_sgd_over_rounds() -> None:
    own = taken(ServerSettings(optimizer="momentum", momentum=0.9, learning_rate=0.5))
    for mine, theirs in zip(own, moved_by_torch(torch.optim.SGD, lr=0.5, momentum=0.9), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_nesterovs_momentum_is_torchs_too() -> None:
    own = taken(ServerSettings(optimizer="nesterov", momentum=0.3, learning_rate=0.5))
    theirs = moved_by_torch(torch.optim.SGD, lr=0.5, momentum=0.3, nesterov=True)
    for mine, reference in zip(own, theirs, strict=True):
        assert torch.allclose(mine, reference, atol=1e-6)


LEFT_OPEN = ServerSettings(optimizer="nesterov", momentum=None)


def fitted_to(sizes: list[int], training: TrainingSettings, server: ServerSettings, **run: Any) -> ServerSettings:
    """Return the settings fitted to a round of sites of these sizes, whose updates weigh as much."""
    settings = RunSettings(
        model="small-cnn", image_size=32, classes=("a", "b"), training=training, server=server, workers=4, **run
    )
    samples = {WorkerName(f"client{number}"): size for number, size in enumerate(sizes)}
    verdicts = [
        Verdict(
            worker=name, selected=True, reason="", score=None, norm=1.0, weight=size / max(1, sum(sizes)), cosine=None
        )
        for name, size in samples.items()
    ]
    return fitted(settings, verdicts, samples)


def way(training: TrainingSettings, samples: int) -> float:
    """Return how far torch's SGD comes in a round along an even slope of one, at a learning rate of one."""
    parameter = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimiser = torch.optim.SGD([parameter], lr=1.0, momentum=training.momentum, nesterov=training.momentum > 0)
    parameter.grad = torch.tensor(-1.0, dtype=torch.float64)
    for _ in range(training.steps(math.ceil(samples / training.batch_size))):
        optimiser.step()
    return float(parameter.detach())


@pytest.mark.parametrize("steps", [1, 15, 200])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_what_sites_lose_is_what_torchs_momentum_lags_behind_on_an_even_slope(steps: int, momentum: float) -> None:
    training = TrainingSettings(local_epochs=0.5, batch_size=4, momentum=momentum)
    whole_way = steps / (1 - momentum)
    assert lost_by_sites(training, [(0.3, 8 * steps)]) == pytest.approx(1 - way(training, 8 * steps) / whole_way)


@pytest.mark.parametrize("sizes", [[200, 200], [8, 2000], [50, 60, 900, 1000]])
def test_with_sites_of_any_sizes_the_model_comes_as_far_as_sgd_that_runs_on(sizes: list[int]) -> None:
    training = TrainingSettings(local_epochs=0.25, batch_size=8)
    counted = [(size / sum(sizes), size) for size in sizes]
    server = fitted_to(sizes, training, LEFT_OPEN)
    step = torch.tensor([sum(share * way(training, size) for share, size in counted)])
    state, moved = FRESH, step
    for _ in range(200):  # until its own momentum has gathered
        moved, state = server_step(step, state, server)
    ran_on = sum(share * training.steps(math.ceil(size / 8)) for share, size in counted) / (1 - training.momentum)
    assert float(moved) == pytest.approx(ran_on, rel=1e-4)


def test_nothing_that_is_counted_is_nothing_lost() -> None:
    training = TrainingSettings(batch_size=10)
    idle = replace(training, local_epochs=0)
    assert lost_by_sites(training, []) == lost_by_sites(idle, [(1.0, 200)]) == lost_by_sites(training, [(0, 9)]) == 0.0
    assert 0 < lost_by_sites(training, [(1.0, 1)]) < 1


def test_a_momentum_that_is_left_open_is_what_sites_lose() -> None:
    training = TrainingSettings(batch_size=10)
    assert fitted_to([200], training, LEFT_OPEN).momentum == lost_by_sites(training, [(1.0, 200)])
    given = ServerSettings(optimizer="nesterov", momentum=0.3)
    assert fitted_to([200], training, given) is given


def test_under_client_level_privacy_no_samples_are_counted() -> None:
    private = ClientPrivacySettings(clip=1.0, noise=1.0)
    assert fitted_to([200], TrainingSettings(batch_size=10), LEFT_OPEN, client_privacy=private).momentum == 0.0


def test_adam_follows_its_paper_step_by_step() -> None:
    settings = ServerSettings(optimizer="adam", momentum=0.9, beta_2=0.99, tau=1e-2, learning_rate=0.3)
    first = second = torch.zeros(5)
    for step, moved in zip(STEPS, taken(settings), strict=True):
        first = 0.9 * first + 0.1 * step
        second = 0.99 * second + 0.01 * step**2
        assert torch.allclose(moved, 0.3 * first / (second.sqrt() + 1e-2), atol=1e-6)


def test_the_state_is_another_after_each_round_and_so_is_its_digest() -> None:
    settings = ServerSettings(optimizer="adam")
    _, one = server_step(STEPS[0], FRESH, settings)
    _, two = server_step(STEPS[1], one, settings)
    assert one.digest != two.digest
    assert one.digest == ServerState(moments={name: value.clone() for name, value in one.moments.items()}).digest


@pytest.mark.parametrize(
    ("optimizer", "stored"),
    [
        ("momentum", None),
        ("momentum", {"momentum": torch.zeros(4)}),
        ("momentum", {"momentum": torch.zeros(5, dtype=torch.float64)}),
        ("momentum", {"momentum": "five"}),
        ("nesterov", {"momentum": torch.zeros(5), "second": torch.zeros(5)}),
        ("adam", {"momentum": torch.zeros(5)}),
        ("none", {"momentum": torch.zeros(5)}),
    ],
)
def test_a_checkpoint_with_another_state_is_refused(optimizer: str, stored: object) -> None:
    with pytest.raises(ModelError, match="server's optimiser"):
        state_from(stored, ServerSettings(optimizer=optimizer), width=5)


def test_the_state_comes_back_from_a_checkpoint() -> None:
    stored = {"momentum": torch.ones(5), "second": torch.ones(5)}
    assert state_from(stored, ServerSettings(optimizer="adam"), width=5).moments == stored
