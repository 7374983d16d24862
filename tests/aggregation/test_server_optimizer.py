from typing import Any

import pytest
import torch

from fednet.aggregation.server_optimizer import FRESH, ServerState, server_step, state_from
from fednet.config import ServerSettings
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
