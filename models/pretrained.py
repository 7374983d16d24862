"""Starting weights: ImageNet's through torchvision, a file's, or none; a failed download never blocks a run."""

from __future__ import annotations

import contextlib
import enum
import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fednet.errors import ModelError
from models.checkpoint import load_document, load_state

DOWNLOAD_TIMEOUT_S = 10.0  # for each step of the connection: torch.hub itself has none
_HOW = "pass --weights FILE with torchvision's resnet18 state_dict, or --pretrained no"

Notice = Callable[[str], None]


class Pretrained(enum.Enum):
    """What `--pretrained` asks."""

    AUTO = "auto"
    REQUIRE = "require"
    NO = "no"


def start_from(model: nn.Module, name: str, *, pretrained: Pretrained, weights: Path | None, notice: Notice) -> None:
    """Give `model` its starting weights: `weights` where given, else ImageNet's as `pretrained` says.

    With AUTO a failed download is one notice and a start from scratch; with REQUIRE it is a `ModelError`.
    """
    if weights is not None:
        _load_file(model, weights)
        notice(f"starting from {weights}")
        return
    if pretrained is Pretrained.NO:
        return
    if name != "resnet18":
        if pretrained is Pretrained.REQUIRE:
            raise ModelError(
                f"--pretrained require with {name}", found="no ImageNet weights of it", expected="resnet18"
            )
        return
    try:
        state = _download()
    except Exception as exc:  # urllib, ssl, socket and torch.hub raise many kinds; each means: not to be had now
        reason = str(exc) or type(exc).__name__
        if pretrained is Pretrained.REQUIRE:
            raise ModelError("ImageNet weights", found=f"not to be had ({reason})", todo=_HOW) from exc
        notice(f"ImageNet weights cannot be had here ({reason}); starting from scratch. For better results {_HOW}")
        return
    _load_backbone(model, state, what="ImageNet weights")
    notice("starting from ImageNet weights")


def _download() -> dict[str, torch.Tensor]:
    from torchvision.models import ResNet18_Weights

    # torch.hub writes "Downloading: ..." to stderr and cannot be told not to
    with _socket_timeout(DOWNLOAD_TIMEOUT_S), contextlib.redirect_stderr(io.StringIO()):
        state: dict[str, torch.Tensor] = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    return state


def _load_file(model: nn.Module, path: Path) -> None:
    document = load_document(path)
    state: Any = document.get("state_dict", document) if isinstance(document, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"weights {path}", found="no state_dict", expected="names and tensors")
    _load_backbone(model, state, what=f"weights {path}")


def _load_backbone(model: nn.Module, state: dict[str, torch.Tensor], *, what: str) -> None:
    """Load `state`, keeping the model's own last layer where the other has another number of classes."""
    own = model.state_dict()
    fitting = dict(state)
    for name in ("fc.weight", "fc.bias"):
        if name in own and name in fitting and fitting[name].shape != own[name].shape:
            fitting[name] = own[name]
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):
            fitting.setdefault(name, value)  # older state_dicts have no counters
    load_state(model, fitting, what=what)


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
