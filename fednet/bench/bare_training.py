"""The reference for local training: a bare PyTorch loop over batches that lie ready, timed in turn with another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from fednet.bench.rates import seconds


@dataclass(frozen=True, kw_only=True)
class BareTraining:
    """Forward, backward and an optimiser's step over `batches`, `epochs` times, and nothing else.

    `precision`: float32, or the half precision that is mixed in.
    """

    model: nn.Module
    batches: Sequence[tuple[torch.Tensor, torch.Tensor]]  # (images  # (b, 3, s, s) float32, labels  # (b,)), in place
    epochs: int
    new_optimiser: Callable[[], torch.optim.Optimizer]
    precision: torch.dtype

    def run(self) -> None:
        """Train the model in place."""
        device, mixes = self.batches[0][0].device.type, self.precision is not torch.float32
        self.model.train()
        optimiser = self.new_optimiser()
        scaler = torch.amp.GradScaler(device, enabled=self.precision is torch.float16)
        for _ in range(self.epochs):
            for images, labels in self.batches:
                optimiser.zero_grad(set_to_none=True)
                with torch.autocast(device, dtype=self.precision if mixes else None, enabled=mixes):
                    loss = functional.cross_entropy(self.model(images), labels)
                torch.autograd.backward(scaler.scale(loss))
                scaler.step(optimiser)
                scaler.update()


@dataclass(frozen=True)
class InTurn:
    """What one work and its reference took, each measured twice a repeat."""

    ours: list[float]
    reference: list[float]

    def ratios(self) -> list[float]:
        """Return for each repeat what share of the reference's speed ours has."""
        pairs = range(0, len(self.ours), 2)
        return [sum(self.reference[start : start + 2]) / sum(self.ours[start : start + 2]) for start in pairs]


def in_turn(
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    repeats: int,
    device: torch.device,
    reset: Callable[[], object],
) -> tuple[InTurn, InTurn]:
    """Time ours, reference, reference, ours in each repeat: what drifts evenly meets both alike; `reset` goes before.

    Both run once beforehand, untimed. Returns (seconds that passed, seconds of the processor).
    """
    passed, processor = InTurn([], []), InTurn([], [])
    for work in (ours, reference):
        reset()
        work()
    for _ in range(repeats):
        for work, name in ((ours, "ours"), (reference, "reference"), (reference, "reference"), (ours, "ours")):
            reset()
            began = time.process_time()
            getattr(passed, name).append(seconds(work, device))
            getattr(processor, name).append(time.process_time() - began)
    return passed, processor
