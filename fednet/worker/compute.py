"""One device and how a training step is computed on it: precision, compilation, and what fits into its memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fednet.errors import TrainingError
from fednet.worker.objective import Objective
from fednet.worker.replicas import ALONE, Replicas, without_averaging

_FEWEST = 2  # images at once: BatchNorm cannot train on one
Network = Callable[[torch.Tensor], torch.Tensor]


class Compute:
    """Computes gradients on one device; remembers from round to round how many images fit at once.

    In mixed precision where it is asked for, and unasked on CUDA: bfloat16, or float16 with scaled gradients where the
    GPU has no bfloat16. On a CPU it is faster where that multiplies bfloat16 matrices itself (AMX).
    """

    def __init__(
        self,
        device: torch.device,
        *,
        compiles: bool = False,
        mixes: bool | None = None,
        most_at_once: int | None = None,
        replicas: Replicas = ALONE,
        notice: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`compiles`: use torch.compile; `mixes`: precisions (None: on CUDA); `most_at_once`: images in one pass.

        The latter where it is known, else all of a batch.
        """
        self.device = device
        self.replicas = replicas
        self._compiles = compiles
        self._most = most_at_once
        self._notice = notice
        is_cuda = device.type == "cuda"
        self._mixes = is_cuda if mixes is None else mixes
        self._half = torch.bfloat16 if not is_cuda or torch.cuda.is_bf16_supported() else torch.float16
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._half is torch.float16)

    @property
    def precision(self) -> torch.dtype:
        """What it computes in: float32, or the half precision that is mixed in."""
        return self._half if self._mixes else torch.float32

    @property
    def most_at_once(self) -> int | None:
        """How many images are computed in one pass at most, where that is known."""
        return self._most

    def network(self, model: nn.Module) -> Network:
        """Return what is called for the model's logits; of several processes, all have the first's parameters now."""
        compiled: Any = torch.compile(model) if self._compiles else model  # a module too, though its type says less
        return self.replicas.wrapped(compiled)

    def step(
        self,
        network: Network,
        optimiser: torch.optim.Optimizer,
        objective: Objective,
        images: torch.Tensor,
        labels: torch.Tensor,
    ) -> torch.Tensor:
        """Take one optimiser's step on a batch, and return its mean loss (a scalar on the device).

        Of several processes each gives its share of the images and all labels; the mean of their losses is the batch's.
        Where memory overflows, the batch is computed in halves from then on, whose gradients add up to those of the
        whole (BatchNorm sees the halves). Raises `TrainingError` where not even two images fit, or of several
        processes where a share does not.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        while True:
            optimiser.zero_grad(set_to_none=True)
            try:
                loss = self._gradients(network, objective, images, labels)
                break
            except torch.OutOfMemoryError as exc:
                if self.replicas.size > 1:  # the others wait for this batch's gradients: they cannot compute it again
                    raise TrainingError(
                        f"the memory of {self.device} is too small for {len(images)} images at once: join with a "
                        "smaller --images-at-once in all processes"
                    ) from exc
                overflowing = self._parts(len(labels))
            self._halve(len(labels), overflowing)
        self._scaler.unscale_(optimiser)
        objective.pull()
        self._scaler.step(optimiser)
        self._scaler.update()
        return loss

    def _gradients(
        self, network: Network, objective: Objective, images: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        parts = self._parts(self.replicas.largest_share(len(labels)))  # as many everywhere: SyncBatchNorm waits in each
        total = objective.weight_of(labels) / self.replicas.size  # the processes' gradients are averaged, not added
        own = labels[self.replicas.share(len(labels))]
        sum_of_losses = torch.zeros((), device=self.device)
        pieces = list(zip(images.tensor_split(parts), own.tensor_split(parts), strict=True))
        for number, (some, theirs) in enumerate(pieces, start=1):
            with contextlib.nullcontext() if number == parts else without_averaging(network):
                with torch.autocast(self.device.type, dtype=self._half, enabled=self._mixes):
                    logits = network(some)
                loss = objective.loss(logits.float(), theirs) / total
                torch.autograd.backward(self._scaler.scale(loss))
            sum_of_losses += loss.detach()
        return sum_of_losses

    def _parts(self, images: int) -> int:
        """Return in how many passes so many images are computed."""
        return 1 if self._most is None else -(-images // self._most)

    def _halve(self, images: int, parts: int) -> None:
        at_once = -(-images // parts)
        if at_once <= _FEWEST:
            raise TrainingError(
                f"the memory of {self.device} is too small for {at_once} images at once: another program may be using "
                "it; a smaller --image-size or --model needs less"
            )
        self._most = max(_FEWEST, at_once // 2)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._notice(
            f"Warning: the memory of {self.device} is too small for {at_once} images at once; {self._most} from now "
            f"on, and a step still takes all {images}"
        )
