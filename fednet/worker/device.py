"""Which device to compute on (`auto`, `cpu`, `cuda`, `cuda:1`, `mps`), and how it is set up beforehand."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

import torch

from fednet.errors import BadInput

_REPEATABLE = (":4096:8", ":16:8")  # workspaces with which cuBLAS sums in the same order each time: NVIDIA's two


def device_from(text: str) -> torch.device:
    """Return the device that `text` names; `auto` is `cuda` where there is one, and that under torchrun one's own.

    Raises `BadInput` if it is not there.
    """
    name = text
    if text == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        raise BadInput(f"--device {name}", found="not on this machine", expected="auto, cpu, cuda or cuda:N") from exc
    return device


def prepare(
    device: torch.device,
    *,
    most_memory_gib: float | None = None,
    is_deterministic: bool = False,
    notice: Callable[[str], None] = lambda text: None,
) -> None:
    """Set this process up for `device`, before anything is computed on it.

    `most_memory_gib`: of a GPU's memory, as PyTorch allocates it; the CUDA context takes some more. `is_deterministic`:
    the same seed gives the same bits on the same machine, by slower ways on CUDA; an operation that has none raises a
    RuntimeError there. Without it cuDNN tries out which way is fastest for each shape.
    """
    is_cuda = device.type == "cuda"
    if most_memory_gib is not None and not is_cuda:
        notice(f"Warning: --max-gpu-memory does nothing on the {device.type}")
    elif most_memory_gib is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, most_memory_gib * 2**30 / total), device)
    if is_deterministic:
        _repeat_exactly()
    elif is_cuda:
        torch.backends.cudnn.benchmark = True


def _repeat_exactly() -> None:
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _REPEATABLE:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = _REPEATABLE[0]
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def require_compiler(device: torch.device) -> None:
    """Raise `BadInput` where torch.compile cannot work, by compiling something small: some seconds.

    On a CPU it needs a C++ compiler, on CUDA Triton and a C compiler.
    """
    from torch._dynamo.exc import TorchDynamoException

    ones, new = torch.ones(2, device=device), secrets.randbits(30)  # in no cache, which would need no compiler
    try:
        torch.compile(lambda: torch.cos(ones) + new)()
    except TorchDynamoException as exc:
        reason = str(getattr(exc, "inner_exception", exc)).splitlines()[0]
        raise BadInput(
            "--compile",
            found=f"nothing to compile with for the {device.type} ({reason})",
            expected="a C++ compiler (g++, clang)" if device.type == "cpu" else "Triton and a C compiler",
            todo="install it, or leave --compile out",
        ) from exc
