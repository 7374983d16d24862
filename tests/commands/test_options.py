from typing import Any

import pytest

from fednet.commands.coordinator import command
from fednet.commands.options import (
    begun_options,
    client_privacy_settings,
    kept_options,
    learning_settings,
    training_settings,
)
from fednet.config import (
    BATCH_NORMS,
    PROPOSED_ROUNDS,
    PROPOSED_SCHEDULE,
    PROPOSED_TRAINING,
    SCHEDULES,
    SERVER_OPTIMIZERS,
    ClientPrivacySettings,
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
    with pytest.raises(BadInput, match="expected 0: the server keeps it"):
        RunSettings(model="small-cnn", image_size=16, classes=("a", "b"), server=ServerSettings(optimizer="nesterov"))


def test_fedavgm_has_a_momentum_of_its_own() -> None:
    assert [learning(server_optimizer="momentum")[place].momentum for place in (0, 1)] == [0.8, 0.9]
    assert learning(server_optimizer="momentum", server_momentum=0.3)[1].momentum == 0.3


@pytest.mark.parametrize("optimizer", ["auto", "none", "nesterov"])
def test_others_take_none_of_the_servers_own(optimizer: str) -> None:
    with pytest.raises(BadInput, match=rf"--server-momentum; found 0\.3, with --server-optimizer {optimizer}"):
        learning(server_optimizer=optimizer, server_momentum=0.3)


def test_where_a_budget_of_privacy_may_leave_few_rounds_sites_keep_the_momentum() -> None:
    found = learning_settings(given(server_optimizer="auto"), rounds=100, is_private=True)
    assert (found["server"].optimizer, found["training"].momentum) == ("none", 0.8)


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
    ("server", "freeze_until", "privacy"),
    [
        (ServerSettings(), "stem", ClientPrivacySettings()),
        (ServerSettings(), "", ClientPrivacySettings(clip=1.0, noise=2.0, epsilon=8.0)),
        (ServerSettings(optimizer="nesterov", momentum=0.3, learning_rate=0.5), "stem", ClientPrivacySettings()),
        (ServerSettings(optimizer="adam", momentum=0.8, beta_2=0.98, tau=0.1), "stem", ClientPrivacySettings()),
    ],
)
def test_the_options_of_a_run_that_goes_on_are_those_it_began_with(
    server: ServerSettings, freeze_until: str, privacy: ClientPrivacySettings
) -> None:
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
        freeze_until=freeze_until,
        layer_lr_decay=0.7,
    )
    run = RunSettings(
        model="small-cnn",
        image_size=16,
        classes=("a", "b"),
        rounds=7,
        workers=6,
        training=training,
        server=server,
        lr_schedule="step",
        warmup_rounds=2,
        batch_norm="local",
        guard=0.2,
        early_stop=5,
        client_privacy=privacy,
    )
    options = begun_options(run)
    again = RunSettings(
        model="small-cnn",
        image_size=16,
        classes=("a", "b"),
        rounds=options.pop("rounds"),
        workers=6,
        client_privacy=client_privacy_settings(options),
        guard=options.pop("guard"),
        early_stop=options.pop("early_stop"),
        **learning_settings(options, rounds=7),
    )
    assert again == run
    assert not options


def test_a_run_that_goes_on_keeps_what_nobody_settles() -> None:
    begun = RunSettings(model="small-cnn", image_size=16, classes=("a", "b"), rounds=7, early_stop=5, guard=0.2)
    start = command.commands["start"]
    with start.make_context("start", ["--rounds", "60", "--guard", "0.1", "--server-optimizer", "auto"]) as context:
        kept = kept_options(begun, context.params)
    assert "rounds" not in kept
    assert "guard" not in kept
    assert (kept["server_optimizer"], kept["early_stop"], kept["local_epochs"]) == ("none", 5, 1)


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
