"""One process of a worker in two, for `test_replicas.py`: `python -m tests.worker.replica SCENARIO`, found as JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from data.images import ScanSet
from data.loaders import ScanLoader
from fednet.config import TrainingSettings
from fednet.errors import BadInput, ProcessLost
from fednet.worker.compute import Compute
from fednet.worker.replicas import ALONE, Replicas, TrainingBegun, join_replicas
from fednet.worker.training import TrainingResult, train

CPU = torch.device("cpu")
SEED = 7
CASES: dict[str, tuple[int, int | None, TrainingSettings]] = {  # samples, most images at once, settings
    "uneven shares": (23, None, TrainingSettings(batch_size=8)),
    "class weights": (21, None, TrainingSettings(batch_size=7, balance="loss", label_smoothing=0.1)),
    "balanced draws": (21, None, TrainingSettings(batch_size=7, balance="sampling")),
    "in parts": (30, 2, TrainingSettings(batch_size=15, local_epochs=2)),
    "pulled and partly frozen": (
        16,
        None,
        TrainingSettings(batch_size=8, proximal_mu=0.5, freeze_until="stem", layer_lr_decay=0.5, local_epochs=2),
    ),
    "fewer images than processes": (3, None, TrainingSettings(batch_size=1)),
}


class GroupNet(nn.Module):
    """Small, and without BatchNorm."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        self.features = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU())
        self.fc = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.features(self.stem(images)).mean(dim=(2, 3)))
        return logits


class DyingLoader(ScanLoader):
    """Ends its process in the third batch."""

    def batches(self, **options: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number, batch in enumerate(super().batches(**options), start=1):
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch


def scans(samples: int) -> ScanSet:
    generator = torch.Generator().manual_seed(samples)
    labels = torch.randint(0, 4, (samples,), generator=generator) * torch.randint(0, 2, (samples,), generator=generator)
    images = torch.randint(0, 256, (samples, 1, 20, 20), generator=generator, dtype=torch.uint8)
    return ScanSet(images, labels, ())


def trained(replicas: Replicas, data: ScanLoader, most: int | None, settings: TrainingSettings, seed: int) -> GroupNet:
    """Train from weights that are the process's own: those of the first must count."""
    model = GroupNet(seed=replicas.rank)
    train(model, data, settings, seed=seed, compute=Compute(CPU, most_at_once=most, replicas=replicas))
    return model


def begun(replicas: Replicas, settings: TrainingSettings) -> TrainingBegun:
    """What the first process begins, which the other one hears of."""
    if replicas.rank == 0:
        return TrainingBegun(settings, SEED)
    heard = replicas.heard()
    assert isinstance(heard, TrainingBegun)
    return heard


def difference(replicas: Replicas, name: str) -> float:
    """How far one process alone comes from what the two come to: the largest difference of a weight."""
    samples, most, settings = CASES[name]
    task = begun(replicas, settings)
    mine = trained(
        replicas, ScanLoader(scans(samples), CPU, share=replicas.share), most, task.settings, task.seed
    ).state_dict()
    alone = trained(ALONE, ScanLoader(scans(samples), CPU), None, settings, SEED).state_dict()
    return max(float((mine[key] - alone[key]).abs().max()) for key in alone)


def stopped(replicas: Replicas) -> TrainingResult:
    """The first process wants to stop at the fourth batch, the other one never."""
    answers = iter([False, False, False, True])
    task = begun(replicas, TrainingSettings(batch_size=4, local_epochs=9))
    return train(
        GroupNet(0),
        ScanLoader(scans(16), CPU, share=replicas.share),
        task.settings,
        seed=task.seed,
        compute=Compute(CPU, replicas=replicas),
        should_stop=(lambda: next(answers)) if replicas.rank == 0 else (lambda: False),
    )


def losses(replicas: Replicas) -> list[float]:
    """The mean loss of two processes and of one."""
    settings = TrainingSettings(batch_size=7, balance="loss")
    task = begun(replicas, settings)
    return [
        train(GroupNet(0), data, task.settings, seed=task.seed, compute=Compute(CPU, replicas=each)).mean_loss
        for each, data in (
            (replicas, ScanLoader(scans(21), CPU, share=replicas.share)),
            (ALONE, ScanLoader(scans(21), CPU)),
        )
    ]


def complaint(replicas: Replicas) -> str:
    try:
        replicas.require_same(bytes([replicas.rank] * 32), what="scans of client1_data")
    except BadInput as exc:
        return str(exc)
    return ""


def bereaved(replicas: Replicas) -> str:
    """What the first process says where the other one is killed in the midst of a training."""
    task = begun(replicas, TrainingSettings(batch_size=4, local_epochs=2))
    loader = ScanLoader if replicas.rank == 0 else DyingLoader
    try:
        trained(replicas, loader(scans(40), CPU, share=replicas.share), None, task.settings, task.seed)
    except ProcessLost as exc:
        return str(exc)
    return ""


def together(replicas: Replicas) -> dict[str, Any]:
    """All that two living processes do, and at the end one dies."""
    result = stopped(replicas)
    return {
        "differences": {name: difference(replicas, name) for name in CASES},
        "losses": losses(replicas),
        "stopped": [result.stopped, result.batches],
        "complaint": complaint(replicas),
        "bereaved": bereaved(replicas),
    }


def ended(replicas: Replicas) -> dict[str, Any]:
    """The first process says that all is done, and dies; the other one hears the one, then the other."""
    if replicas.rank == 0:
        replicas.dismiss()
        os.kill(os.getpid(), signal.SIGKILL)
    is_dismissed = replicas.heard() is None
    try:
        replicas.heard()
    except ProcessLost as exc:
        return {"dismissed": is_dismissed, "orphaned": str(exc)}
    return {}


def main() -> None:
    torch.set_num_threads(1)
    replicas = join_replicas(CPU)
    scenario = {"together": together, "ended": ended}[sys.argv[1]]
    print(json.dumps(scenario(replicas)))


if __name__ == "__main__":
    main()
