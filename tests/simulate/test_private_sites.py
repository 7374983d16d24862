from dataclasses import replace

import torch

from fednet.aggregation.rules.registry import recipe_named
from fednet.config import WorkerName
from fednet.simulate.federation import Data, VirtualFederation, World
from tests.worker.fakes import TinyData
from tests.worker.private_sites import PRIVACY, group_net, planned


def hospital(seed: int) -> Data:
    return lambda poison: TinyData(24, seed=seed)


def world() -> World:
    return World(
        hospitals={WorkerName(f"client{number}"): hospital(number) for number in (1, 2, 3)},
        test=TinyData(60, seed=99),
        validation=TinyData(40, seed=96),
        root=None,
        triggered=lambda attack: None,
        new_model=group_net,
        device=torch.device("cpu"),
        privacy=PRIVACY,
    )


def test_every_hospital_has_an_account_of_its_own_and_no_two_runs_are_alike() -> None:
    settings = planned(workers=3, quorum=3)
    found = []
    for _ in range(2):
        federation = VirtualFederation(world(), settings, recipe_named("fedavg"), None)
        assert len(federation.run().accuracy) == 3
        spent = federation.spent()
        assert set(spent) == {"client1", "client2", "client3"}
        assert all(7.9 < each <= 8.0 for each in spent.values())
        found.append(federation._model.clone())
    assert not torch.equal(found[0], found[1])


def test_without_it_hospitals_train_plainly() -> None:
    federation = VirtualFederation(
        replace(world(), privacy=None), planned(workers=3, quorum=3), recipe_named("fedavg"), None
    )
    federation.run()
    assert federation.spent() == {}
