"""Which device to compute on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""

from __future__ import annotations

import os

import torch

from fednet.errors import BadInput


def device_from(text: str) -> torch.device:
    """Return the device that `text` names; `auto` is `cuda` where there is one, and that under torchrun one's own.

    Raises `BadInput` if it is not there.
    """
    if text == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    name = f"cuda:{os.environ['LOCAL_RANK']}" if text in ("auto", "cuda") and "LOCAL_RANK" in os.environ else text
    if name == "auto":
        return torch.device("cuda")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        raise BadInput(f"--device {name}", found="not on this machine", expected="auto, cpu, cuda or cuda:N") from exc
    return device
