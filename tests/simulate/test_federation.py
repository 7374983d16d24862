from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fednet.aggregation.rules.registry import recipe_named
from fednet.config import (
    PROPOSED_SCHEDULE,
    PROPOSED_TRAINING,
    ClientPrivacySettings,
    RunSettings,
    ServerSettings,
    TrainingSettings,
    WorkerName,
    automatic_server_optimizer,
)
from fednet.errors import BadInput
from fednet.privacy.accounting import epsilon_after
from fednet.simulate.attacks import ATTACKS, attack_named
from fednet.simulate.federation import Data, Simulated, VirtualFederation, World
from tests.worker.fakes import TinyData, TinyNet, tiny_net

CLASSES = ("dark", "bright")


def hospital(seed: int) -> Data:
    return lambda poison: TinyData(24, seed=seed)


def world(workers: int, *, root: bool = False) -> World:
    return World(
        hospitals={WorkerName(f"client{number:02}"): hospital(number) for number in range(workers)},
        test=TinyData(60, seed=99),
        validation=TinyData(40, seed=96),
        root=TinyData(24, seed=98) if root else None,
        triggered=lambda attack: TinyData(20, seed=97) if attack.trigger else None,
        new_model=tiny_net,
        device=torch.device("cpu"),
    )


def simulated(
    aggregator: str, attack: str | None, *, pre: Sequence[str] = (), workers: int = 7, **changes: Any
) -> Simulated:
    fields: dict[str, Any] = {
        "model": "tiny",
        "image_size": 16,
        "classes": CLASSES,
        "rounds": 3,
        "workers": workers,
        "byzantine": 2,
        "quorum": workers,
        "training": TrainingSettings(local_epochs=2, batch_size=8, learning_rate=0.1),
    }
    recipe = recipe_named(aggregator, pre)
    attacked = attack_named(attack, classes=2) if attack else None
    settings = RunSettings(**(fields | changes))
    return VirtualFederation(world(workers, root=recipe.rule.needs_root), settings, recipe, attacked).run()


@pytest.mark.parametrize("batch_norm", ["local", "reestimated"])
def test_it_learns_whatever_becomes_of_batch_norm(batch_norm: str) -> None:
    assert simulated("multikrum", None, batch_norm=batch_norm).accuracy[-1] > 0.8


def test_what_the_commands_propose_learns_and_still_rejects_attackers() -> None:
    server = ServerSettings(optimizer="nesterov", momentum=PROPOSED_TRAINING.momentum)
    assert automatic_server_optimizer(50, server.momentum) == server.optimizer
    training = replace(PROPOSED_TRAINING, learning_rate=0.1, momentum=0.0)
    found = simulated(
        "multikrum",
        "sign-flip",
        rounds=50,
        training=training,
        server=server,
        lr_schedule=PROPOSED_SCHEDULE,
    )
    assert found.accuracy[-1] > 0.8
    assert found.attackers_selected[:12] == [0] * 12, "while there is something to learn that a flipped sign denies"


def test_it_learns_what_the_hospitals_know() -> None:
    found = simulated("multikrum", None)
    assert found.accuracy[-1] > 0.8
    assert found.attackers == []
    assert [len(names) for names in found.honest_rejected] == [2, 2, 2]


def test_the_last_f_by_name_attack_and_are_rejected() -> None:
    found = simulated("multikrum", "sign-flip")
    assert found.attackers == ["client05", "client06"]
    assert found.attackers_selected == [0, 0, 0]
    assert found.attackers_share == [0.0, 0.0, 0.0]
    assert found.honest_rejected == [[], [], []]


def test_plain_averaging_lets_them_in() -> None:
    assert simulated("fedavg", "sign-flip").attackers_selected == [2, 2, 2]


def test_the_same_seed_gives_the_same_run() -> None:
    assert simulated("nnm+trimmed-mean", "noise") == simulated("nnm+trimmed-mean", "noise")
    assert simulated("krum", "noise", seed=1) != simulated("krum", "noise")


def test_a_nan_is_rejected_and_the_run_goes_on() -> None:
    found = simulated("multikrum", "nan")
    assert found.parked is None
    assert found.attackers_selected == [0, 0, 0]


def test_one_colluder_too_many_is_beyond_the_guarantee_and_said_so() -> None:
    found = simulated("krum", "colluders")
    assert len(found.attackers) == 3, "f + 1"
    assert "client04, client05, client06 sent the same update" in found.notes[0]
    assert "beyond the guarantee" in found.notes[0]


def test_the_tournament_names_its_winner_in_every_round() -> None:
    found = simulated("tournament", "sign-flip")
    assert all("won the tournament" in note for note in found.notes)
    assert found.accuracy[-1] > 0.8


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name not in ("label-flip", "sample-lies", "backdoor")])
def test_every_attack_on_updates_runs_to_the_end(attack: str) -> None:
    found = simulated("nnm+multikrum", attack, rounds=1)
    assert len(found.accuracy) == 1


class PlainNet(TinyNet):
    """Without BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.features[1] = nn.Identity()


def private(**changes: Any) -> Simulated:
    privacy = ClientPrivacySettings(**({"clip": 1.0, "noise": 4.0} | changes))
    run = RunSettings(
        model="tiny", image_size=16, classes=CLASSES, rounds=3, workers=5, quorum=5, client_privacy=privacy
    )
    return VirtualFederation(replace(world(5), new_model=PlainNet), run, recipe_named("fedavg"), None).run()


def test_client_level_privacy_is_accounted_and_ends_a_cell_before_it_is_overspent() -> None:
    spent = private()
    assert spent.epsilon == epsilon_after(3, multiplier=2.0, delta=1e-5)
    assert len(spent.accuracy) == 3
    two = epsilon_after(2, multiplier=2.0, delta=1e-5)
    assert (len((found := private(epsilon=two)).accuracy), found.epsilon) == (2, two)
    with pytest.raises(BadInput, match="one round would exceed it"):
        private(epsilon=0.5)
    with pytest.raises(BadInput, match="BatchNorm"):
        simulated("fedavg", None, byzantine=0, client_privacy=ClientPrivacySettings(clip=1.0, noise=1.0))


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_screen_for_copies_names_no_honest_hospital(epochs: int) -> None:
    training = TrainingSettings(local_epochs=epochs, batch_size=24, learning_rate=0.05)
    found = simulated("multikrum", None, pre=["similarity"], training=training)
    assert found.notes == ["", "", ""]


def test_a_screen_for_copies_lets_mimics_count_once() -> None:
    found = simulated("fedavg", "mimic", pre=["similarity"], byzantine=2)
    assert all("sent the same update: one counts" in note for note in found.notes)
    assert max(found.attackers_share) < 0.2


def test_learned_weights_leave_the_attackers_out() -> None:
    found = simulated("learned-weights", "sign-flip")
    assert found.accuracy[-1] > 0.8
    assert max(found.attackers_share) < 0.1


def test_updates_that_do_not_fit_in_memory_are_spooled_and_give_the_same(tmp_path: Path) -> None:
    recipe, attack = recipe_named("nnm+multikrum"), attack_named("min-max", classes=2)
    run = RunSettings(model="tiny", image_size=16, classes=CLASSES, rounds=2, workers=7, byzantine=2, quorum=7)
    kept = VirtualFederation(world(7), run, recipe, attack)
    on_disk = VirtualFederation(world(7), run, recipe, attack, spool=tmp_path / "spool", most_in_memory=100)
    assert on_disk.run() == kept.run()
    assert (tmp_path / "spool").is_dir()
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_backdoors_success_is_measured_on_triggered_images() -> None:
    assert simulated("fedavg", "backdoor", rounds=1).attack_success is not None
    assert simulated("fedavg", "sign-flip", rounds=1).attack_success is None
