from typing import Any

import pytest

from fednet.commands.coordinator import command
from fednet.commands.options import begun_options, learning_settings, training_settings
from fednet.config import (
    BATCH_NORMS,
    PROPOSED_ROUNDS,
    PROPOSED_SCHEDULE,
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
        "local_epochs": 1.0,
        "batch_size": 8,
        "lr": 0.1,
        "momentum": 0.8,
        "weight_decay": 0.0,
        "augment": False,
        "prox_mu": 0.0,
        "label_smoothing": 0.0,
        "balance": "none",
        "freeze_until": "",
        "layer_lr_decay": 1.0,
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


def learning(rounds: int = 100, **changes: Any) -> tuple[TrainingSettings, ServerSettings]:
    """Return what the options mean for the sites, and for the server."""
    found = learning_settings(given(**changes), rounds=rounds)
    return found["training"], found["server"]


@pytest.mark.parametrize(("optimizer", "rate"), [("none", 1.0), ("momentum", 1.0), ("adam", 0.01)])
def test_each_server_optimiser_has_a_rate_that_suits_it(optimizer: str, rate: float) -> None:
    assert optimizer in SERVER_OPTIMIZERS
    assert learning(server_optimizer=optimizer)[1].learning_rate == rate
    assert learning(server_optimizer=optimizer, server_lr=0.3)[1].learning_rate == 0.3


def test_the_momentum_is_the_sites_or_the_servers_and_never_kept_twice() -> None:
    training, server = learning(server_optimizer="nesterov")
    assert (training.momentum, server.momentum) == (0.0, 0.8)
    assert learning(server_optimizer="none")[0].momentum == 0.8
    with pytest.raises(BadInput, match=r"--server-momentum; found 0\.3, with nesterov"):
        learning(server_optimizer="nesterov", server_momentum=0.3)
    with pytest.raises(BadInput, match="expected 0: the server keeps it"):
        RunSettings(model="small-cnn", image_size=16, classes=("a", "b"), server=ServerSettings(optimizer="nesterov"))


def test_fedavgm_has_a_momentum_of_its_own() -> None:
    assert [learning(server_optimizer="momentum")[place].momentum for place in (0, 1)] == [0.8, 0.9]
    assert learning(server_optimizer="momentum", server_momentum=0.3)[1].momentum == 0.3


@pytest.mark.parametrize(
    ("rounds", "momentum", "meant"),
    [(50, 0.9, "nesterov"), (49, 0.9, "none"), (5, 0.0, "none"), (10, 0.5, "nesterov"), (9, 0.5, "none")],
)
def test_the_server_keeps_the_momentum_of_runs_that_are_five_times_as_long(
    rounds: int, momentum: float, meant: str
) -> None:
    training, server = learning(rounds, server_optimizer="auto", momentum=momentum)
    assert server.optimizer == meant
    assert (training.momentum, server.momentum) == ((0.0, momentum) if meant == "nesterov" else (momentum, 0.9))


@pytest.mark.parametrize(
    "server",
    [
        ServerSettings(),
        ServerSettings(optimizer="nesterov", momentum=0.3, learning_rate=0.5),
        ServerSettings(optimizer="adam", momentum=0.8, beta_2=0.98, tau=0.1),
    ],
)
def test_the_options_of_a_run_that_goes_on_are_those_it_began_with(server: ServerSettings) -> None:
    training = TrainingSettings(
        local_epochs=0.5,
        batch_size=3,
        learning_rate=0.3,
        momentum=0.0 if server.optimizer == "nesterov" else 0.1,
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
        **learning_settings(options, rounds=7),
    )
    assert again == run
    assert not options


def test_commands_propose_what_was_chosen() -> None:
    start = command.commands["start"]
    with start.make_context("start", []) as context:
        defaults = context.params
    assert training_settings(dict(defaults)) == PROPOSED_TRAINING
    assert defaults["rounds"] == PROPOSED_ROUNDS
    found = learning_settings(defaults, rounds=PROPOSED_ROUNDS)
    assert (found["server"].optimizer, found["server"].momentum) == ("nesterov", PROPOSED_TRAINING.momentum)
    assert found["lr_schedule"] == PROPOSED_SCHEDULE


def test_a_rate_that_is_none_is_named() -> None:
    with pytest.raises(BadInput, match="--server-lr"):
        learning(server_lr=-1.0)
