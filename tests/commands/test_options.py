from typing import Any

import pytest

from fednet.commands.coordinator import command
from fednet.commands.options import begun_options, learning_settings, training_settings
from fednet.config import (
    BATCH_NORMS,
    PROPOSED_ROUNDS,
    PROPOSED_SCHEDULE,
    PROPOSED_SERVER,
    PROPOSED_TRAINING,
    SCHEDULES,
    SERVER_OPTIMIZERS,
    RunSettings,
    ServerSettings,
    TrainingSettings,
)
from fednet.errors import BadInput


def given(**changes: Any) -> dict[str, Any]:
    options = {
        "server_optimizer": "none",
        "server_lr": None,
        "server_momentum": None,
        "server_beta2": 0.99,
        "server_tau": 1e-3,
        "lr_schedule": SCHEDULES[0],
        "warmup_rounds": 0,
        "batch_norm": BATCH_NORMS[0],
    }
    return options | changes


@pytest.mark.parametrize(("optimizer", "rate"), [("none", 1.0), ("momentum", 1.0), ("adam", 0.01)])
def test_each_server_optimiser_has_a_rate_that_suits_it(optimizer: str, rate: float) -> None:
    assert optimizer in SERVER_OPTIMIZERS
    assert learning_settings(given(server_optimizer=optimizer))["server"].learning_rate == rate
    assert learning_settings(given(server_optimizer=optimizer, server_lr=0.3))["server"].learning_rate == 0.3


@pytest.mark.parametrize(("optimizer", "momentum"), [("none", 0.9), ("momentum", 0.9), ("nesterov", None)])
def test_only_nesterovs_momentum_may_be_left_open(optimizer: str, momentum: float | None) -> None:
    assert learning_settings(given(server_optimizer=optimizer))["server"].momentum == momentum
    assert learning_settings(given(server_optimizer=optimizer, server_momentum=0.3))["server"].momentum == 0.3
    if momentum is not None:
        with pytest.raises(BadInput, match="--server-momentum"):
            ServerSettings(optimizer=optimizer, momentum=None)


@pytest.mark.parametrize(
    "server",
    [
        ServerSettings(),
        ServerSettings(optimizer="nesterov", momentum=None, learning_rate=0.5),
        ServerSettings(optimizer="adam", momentum=0.8, beta_2=0.98, tau=0.1),
    ],
)
def test_the_options_of_a_run_that_goes_on_are_those_it_began_with(server: ServerSettings) -> None:
    training = TrainingSettings(
        local_epochs=0.5,
        batch_size=3,
        learning_rate=0.3,
        momentum=0.1,
        weight_decay=0.2,
        augment=False,
        proximal_mu=0.4,
        label_smoothing=0.05,
        balance="loss",
        freeze_until="stem",
        layer_lr_decay=0.7,
    )
    run = RunSettings(
        model="small-cnn",
        image_size=16,
        classes=("a", "b"),
        rounds=7,
        training=training,
        server=server,
        lr_schedule="step",
        warmup_rounds=2,
        batch_norm="local",
    )
    options = begun_options(run)
    again = RunSettings(
        model="small-cnn",
        image_size=16,
        classes=("a", "b"),
        rounds=options.pop("rounds"),
        training=training_settings(options),
        **learning_settings(options),
    )
    assert again == run
    assert not options


def test_commands_propose_what_was_chosen() -> None:
    start = command.commands["start"]
    with start.make_context("start", []) as context:
        defaults = context.params
    assert training_settings(defaults) == PROPOSED_TRAINING
    assert defaults["rounds"] == PROPOSED_ROUNDS
    found = learning_settings(defaults)
    assert (found["server"], found["lr_schedule"]) == (PROPOSED_SERVER, PROPOSED_SCHEDULE)


def test_a_rate_that_is_none_is_named() -> None:
    with pytest.raises(BadInput, match="--server-lr"):
        learning_settings(given(server_lr=-1.0))
