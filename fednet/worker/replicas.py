"""One worker in several processes (`torchrun`): each computes its share of every batch, and gradients are averaged.

The first process speaks with the coordinator. The others hear from it when a run is opened and when a training begins,
have the same scans and model, and do the same: Li et al., "PyTorch Distributed", VLDB 2020 (DistributedDataParallel).
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fednet import torchrun
from fednet.config import RunSettings, TrainingSettings, run_settings_from
from fednet.errors import BadInput, ProcessLost

_BEHIND = datetime.timedelta(minutes=10)  # how far one process may be behind another within a training


@dataclass(frozen=True)
class RunOpened:
    """The first process opens a run: load the scans, build the model."""

    settings: RunSettings
    worker: str


@dataclass(frozen=True)
class TrainingBegun:
    """The first process begins a training; its model comes along."""

    settings: TrainingSettings
    seed: int


class Replicas:
    """One process of `size`, the `rank`-th. What is said here is said over gloo; gradients have a group of their own.

    Every method but `share` and `largest_share` is called by all processes, in the same order. Those that wait for
    another process raise a RuntimeError when it is gone, which `opening` and `training` turn into `ProcessLost`.
    """

    def __init__(
        self, *, rank: int, size: int, device: torch.device, gradients: dist.ProcessGroup | None = None
    ) -> None:
        self.rank, self.size = rank, size
        self._device = device
        self._gradients = gradients
        self._is_busy = False
        self.lost: ProcessLost | None = None  # what this process has noticed

    def share(self, count: int) -> slice:
        """Return which of a batch's `count` samples this process computes; none where there are too few."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def largest_share(self, count: int) -> int:
        """Return how many of `count` samples fall to the process that has most."""
        return -(-count // self.size)

    @contextlib.contextmanager
    def opening(self, settings: RunSettings, worker: str) -> Iterator[None]:
        """Open a run in all processes; the first tells the others."""
        with self._together({"run": settings.to_dict(), "worker": worker}):
            yield

    @contextlib.contextmanager
    def training(self, settings: TrainingSettings, seed: int) -> Iterator[None]:
        """Train in all processes; the first tells the others."""
        with self._together({"training": asdict(settings), "seed": seed}):
            yield

    def heard(self) -> RunOpened | TrainingBegun | None:
        """Wait for what the first process begins; None when it dismisses us. Raises `ProcessLost`."""
        with self._noticing():
            document = torchrun.heard()
        if not document:
            return None
        if "run" in document:
            return RunOpened(run_settings_from(document["run"]), document["worker"])
        return TrainingBegun(TrainingSettings(**document["training"]), document["seed"])

    def dismiss(self) -> None:
        """Tell the others that there is nothing more to do; those that still compute see that we are gone."""
        if self.size > 1 and self.rank == 0 and not self._is_busy:
            with contextlib.suppress(ProcessLost), self._noticing():
                torchrun.tell({})

    def require_same(self, digest: bytes, *, what: str) -> None:
        """Raise `BadInput` in every process unless all of them found the same."""
        own = torch.tensor(list(digest), dtype=torch.uint8)
        found = self._gathered(own)
        others = [str(rank) for rank, each in enumerate(found) if not torch.equal(each, found[0])]
        if others:
            raise BadInput(
                what,
                found=f"others in process {', '.join(others)} than in process 0",
                expected="the same in all processes of a worker",
                todo="give every host the same folder",
            )

    def told(self, flag: bool) -> bool:
        """Return the first process's flag. The device is not waited for."""
        if self.size == 1:
            return flag
        shown = torch.tensor([flag], dtype=torch.uint8)
        dist.broadcast(shown, src=0)
        return bool(shown)

    def averaged(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the mean over all processes of a tensor on the device, which is overwritten."""
        if self.size > 1:
            dist.all_reduce(tensor, group=self._gradients)
            tensor /= self.size
        return tensor

    def synchronised(self, model: nn.Module, *, name: str) -> nn.Module:
        """Return the model with BatchNorm statistics of whole batches, where it has any.

        Raises `BadInput` on the CPU, where torch has no SyncBatchNorm.
        """
        if self.size == 1 or not any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules()):
            return model
        if self._device.type != "cuda":
            raise BadInput(
                f"several processes on the {self._device.type}",
                found=f"{name}, which has BatchNorm: each would take the statistics of its own share of a batch",
                expected="GPUs, or a model without BatchNorm such as resnet18-gn",
                todo="join with one process (without torchrun)",
            )
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(  # type: ignore[no-untyped-call]  # torch's
            model, process_group=self._gradients
        )
        return converted

    def wrapped(self, model: nn.Module) -> nn.Module:
        """Return what computes the model and averages its gradients; it takes on the first process's parameters."""
        if self.size == 1:
            return model
        return DistributedDataParallel(model, process_group=self._gradients, gradient_as_bucket_view=True)

    def _gathered(self, own: torch.Tensor) -> list[torch.Tensor]:
        found = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(found, own)
        return found

    @contextlib.contextmanager
    def _together(self, document: dict[str, Any]) -> Iterator[None]:
        if self.size == 1:
            yield
            return
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # of this thread, or it would take memory of the first GPU too
        self._is_busy = True
        with self._noticing():
            if self.rank == 0:
                torchrun.tell(document)
            yield
        self._is_busy = False

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as exc:
            if not isinstance(exc, dist.DistError) and "gloo" not in str(
                exc
            ):  # gloo's have no type: they name its files
                raise
            self.lost = ProcessLost(
                f"another of this worker's {self.size} processes is gone, and this round's training with it: the lines "
                "of torchrun say which and why; with --max-restarts it starts all of them again"
            )
            raise self.lost from exc


ALONE = Replicas(rank=0, size=1, device=torch.device("cpu"))
"""The only process of a worker, whatever it computes on."""


def join_replicas(device: torch.device) -> Replicas:
    """Return this process's place among those that torchrun has started. Raises `BadInput` for unlike devices."""
    rank, size = torchrun.join()
    if size == 1:
        return ALONE
    gpus = torch.tensor([int(device.type == "cuda")])
    dist.all_reduce(gpus)
    if int(gpus) not in (0, size):
        raise BadInput(
            "--device", found="a GPU in some processes of this worker, none in others", expected="one kind in all"
        )
    group: Any = dist.new_group(backend="nccl" if int(gpus) else "gloo", timeout=_BEHIND)
    return Replicas(rank=rank, size=size, device=device, gradients=group)


def without_averaging(network: object) -> contextlib.AbstractContextManager[None]:
    """Return in which context a part of a batch is computed whose gradients the batch's last part averages too."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else contextlib.nullcontext()
