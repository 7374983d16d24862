from typing import Any

import pytest

from fednet.commands.options import learning_settings
from fednet.config import BATCH_NORMS, SCHEDULES, SERVER_OPTIMIZERS, ServerSettings
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


def test_a_rate_that_is_none_is_named() -> None:
    with pytest.raises(BadInput, match="--server-lr"):
        learning_settings(given(server_lr=-1.0))
