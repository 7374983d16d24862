"""Real processes with gloo, as `torchrun` starts them: what two train is what one trains alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fednet.commands.processes import free_port
from fednet.config import TrainingSettings
from fednet.errors import BadInput, TrainingError
from fednet.worker.compute import Compute
from fednet.worker.objective import Objective
from fednet.worker.replicas import Replicas
from tests.worker.fakes import tiny_net
from tests.worker.replica import CASES, GroupNet

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def in_two(scenario: str) -> list[dict[str, Any]]:
    """Run a scenario of `replica.py` in two processes; return what each that lived has found."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.worker.replica", scenario],
            cwd=ROOT,
            env=os.environ | place | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, complaints) in zip(processes, outputs, strict=True):
        assert process.returncode in (0, -9), complaints
    return [json.loads(found) for found, _ in outputs if found]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the first process found; the other one was killed in the last thing that it did."""
    (first,) = in_two("together")
    return first


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_trains(found: dict[str, Any], case: str) -> None:
    assert found["differences"][case] < 1e-6


def test_the_loss_is_that_of_all_shares(found: dict[str, Any]) -> None:
    shared, whole = found["losses"]
    assert shared == pytest.approx(whole, rel=1e-5)


def test_the_first_process_stops_all_at_the_same_batch(found: dict[str, Any]) -> None:
    assert found["stopped"] == [True, 3]


def test_unlike_scans_are_refused(found: dict[str, Any]) -> None:
    assert found["complaint"].startswith("scans of client1_data; found others in process 1 than in process 0")


def test_a_process_that_is_killed_ends_the_training_with_a_line(found: dict[str, Any]) -> None:
    assert found["bereaved"].startswith("another of this worker's 2 processes is gone")


def test_the_others_hear_when_all_is_done_and_when_the_first_one_dies() -> None:
    (other,) = in_two("ended")
    assert other["dismissed"] is True
    assert "is gone" in other["orphaned"]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 32])
def test_the_shares_are_the_whole_batch(size: int, count: int) -> None:
    replicas = [Replicas(rank=rank, size=size, device=CPU) for rank in range(size)]
    shares = [range(count)[each.share(count)] for each in replicas]
    assert [sample for share in shares for sample in share] == list(range(count))
    assert max(len(share) for share in shares) == replicas[0].largest_share(count)


def test_batch_norm_is_refused_on_the_cpu() -> None:
    with pytest.raises(BadInput, match=r"small-cnn, which has BatchNorm.*such as resnet18-gn"):
        Replicas(rank=0, size=2, device=CPU).synchronised(tiny_net(), name="small-cnn")


def test_a_model_without_batch_norm_stays_as_it_is() -> None:
    model = GroupNet(0)
    assert Replicas(rank=0, size=2, device=CPU).synchronised(model, name="tiny") is model


def test_synchronised_batch_norm_has_the_same_state() -> None:
    model = tiny_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = Replicas(rank=0, size=2, device=torch.device("cuda:0")).synchronised(model, name="tiny").state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_memory_that_overflows_in_one_process_is_no_matter_of_halving() -> None:
    class Overflowing(GroupNet):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError

    model: nn.Module = Overflowing(0)
    compute = Compute(CPU, replicas=Replicas(rank=1, size=2, device=CPU))
    objective = Objective(model, TrainingSettings(), torch.ones(4), device=CPU)
    with pytest.raises(TrainingError, match=r"too small for 3 images at once: .* smaller --images-at-once"):
        compute.step(
            model, torch.optim.SGD(model.parameters()), objective, torch.zeros(3, 3, 20, 20), torch.zeros(6).long()
        )
