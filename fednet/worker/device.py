"""Which device to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""

from __future__ import annotations

import os

import torch

from fednet.errors import BadInput


def device_from(text: str) -> torch.device:
    """Return the device that `text` names; `auto` is CUDA where there is one, under torchrun each process its own.

    Raises `BadInput` if it is not there.
    """
    if text == "auto":
        own = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
        return torch.device(own if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        raise BadInput(f"--device {text}", found="not on this machine", expected="auto, cpu, cuda or cuda:N") from exc
    return device
