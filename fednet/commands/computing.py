"""How commands compute on their device: the options that say so, and setting it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import torch

F = TypeVar("F", bound=Callable[..., Any])

_MIXES = {"auto": None, "float32": False, "mixed": True}

precision_option = click.option(
    "--precision",
    "mixes",
    type=click.Choice(list(_MIXES)),
    default="auto",
    show_default=True,
    callback=lambda context, option, value: _MIXES[value],
    help="mixed: bfloat16 with float32; auto: mixed on CUDA.",
)


def speed_options(function: F) -> F:
    """Add --compile and --precision."""
    compiles = click.option(
        "--compile", "compiles", is_flag=True, help="torch.compile, meant for GPUs: minutes at first."
    )
    return compiles(precision_option(function))


def computing_options(function: F) -> F:
    """Add --max-gpu-memory and --deterministic."""
    most = click.option(
        "--max-gpu-memory", type=click.FloatRange(0, min_open=True), help="GiB of the GPU's memory (default: all)."
    )
    exact = click.option(
        "--deterministic", is_flag=True, help="The same seed gives the same bits on this machine, slower on CUDA."
    )
    return most(exact(function))


def prepared_device(device: str, given: dict[str, Any], *, notice: Callable[[str], None]) -> torch.device:
    """Take `computing_options` out of `given`, and return the device that --device names, set up by them.

    `given` may hold `compiles`, which stays there. Raises `BadInput` for a device that is not there, or where that
    cannot be done.
    """
    from fednet.worker.device import device_from, prepare, require_compiler

    found = device_from(device)
    prepare(
        found,
        most_memory_gib=given.pop("max_gpu_memory"),
        is_deterministic=given.pop("deterministic"),
        notice=notice,
    )
    if given.get("compiles"):
        require_compiler(found)
    return found
