"""A state_dict as a manifest and one flat little-endian buffer: the only bridge from torch to the wire.

All float32 parameters come first, so the first `parameter_bytes` of an update are its row of the delta matrix;
buffers (BatchNorm statistics, counters) follow, each aligned to its item size.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch

from fednet.errors import ModelError

State = Mapping[str, torch.Tensor]

_DTYPES = {"float32": torch.float32, "float64": torch.float64, "int64": torch.int64, "int32": torch.int32}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8  # bytes: an int64 view needs it

assert sys.byteorder == "little", "FedNet's flat buffers are little-endian and are used without conversion"


class TensorSpec(NamedTuple):
    """Where one tensor lies in the flat buffer; `offset` and `nbytes` in bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    is_parameter: bool


@dataclass(frozen=True)
class Manifest:
    """The layout of one architecture's state; made by each side from its own model, only its digest travels."""

    specs: tuple[TensorSpec, ...]

    @cached_property
    def parameter_bytes(self) -> int:
        """Bytes of all float32 parameters: they fill the buffer from 0 to here without gaps."""
        return sum(spec.nbytes for spec in self.specs if spec.is_parameter)

    @cached_property
    def total_bytes(self) -> int:
        """Size of the flat buffer."""
        return max((spec.offset + spec.nbytes for spec in self.specs), default=0)

    @property
    def buffers_start(self) -> int:
        """Where to cut the flat buffer so that what follows holds all buffers, aligned."""
        return self.parameter_bytes // _ALIGNMENT * _ALIGNMENT

    @property
    def parameter_count(self) -> int:
        """Number of float32 coordinates that Krum compares."""
        return self.parameter_bytes // 4

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the layout; equal digests mean that buffers can be exchanged."""
        text = "\n".join(
            f"{s.name} {s.dtype} {','.join(map(str, s.shape))} {s.offset} {int(s.is_parameter)}" for s in self.specs
        )
        return hashlib.sha256(text.encode()).hexdigest()


def manifest_of(state: State, parameter_names: Iterable[str]) -> Manifest:
    """Return the layout of `state`, in which `parameter_names` are trained and the rest are buffers.

    Raises `ModelError` for a dtype that cannot travel, or a parameter that is not float32.
    """
    trained = set(parameter_names)
    ordered = [name for name in state if name in trained] + [name for name in state if name not in trained]
    specs: list[TensorSpec] = []
    offset = 0
    for name in ordered:
        tensor = state[name]
        dtype = _NAMES.get(tensor.dtype)
        if dtype is None or (name in trained and dtype != "float32"):
            raise ModelError(f"tensor {name}", found=str(tensor.dtype), expected="float32 parameters")
        if name not in trained:
            offset = -(-offset // _ALIGNMENT) * _ALIGNMENT
        nbytes = tensor.numel() * tensor.element_size()
        specs.append(TensorSpec(name, dtype, tuple(tensor.shape), offset, nbytes, name in trained))
        offset += nbytes
    return Manifest(tuple(specs))


def empty_flat(manifest: Manifest) -> torch.Tensor:
    """Return a zeroed buffer  # (total_bytes,) uint8."""
    return torch.zeros(manifest.total_bytes, dtype=torch.uint8)


def views(flat: torch.Tensor, manifest: Manifest) -> dict[str, torch.Tensor]:
    """Return every tensor of `manifest` as a view into `flat` (uint8, total_bytes); nothing is copied.

    Raises `ModelError` when the buffer's size is not the manifest's.
    """
    if flat.dtype != torch.uint8 or flat.numel() != manifest.total_bytes:
        raise ModelError("model buffer", found=f"{flat.numel()} bytes", expected=f"{manifest.total_bytes} bytes")
    return {spec.name: _view(flat, spec, cut=0) for spec in manifest.specs}


def buffer_views(tail: torch.Tensor, manifest: Manifest) -> dict[str, torch.Tensor]:
    """Return the buffers as views into `tail` (uint8), which is a flat buffer from `manifest.buffers_start` on."""
    cut = manifest.buffers_start
    return {spec.name: _view(tail, spec, cut=cut) for spec in manifest.specs if not spec.is_parameter}


def _view(memory: torch.Tensor, spec: TensorSpec, *, cut: int) -> torch.Tensor:
    start = spec.offset - cut
    return memory[start : start + spec.nbytes].view(_DTYPES[spec.dtype]).view(spec.shape)


def pack(state: State, manifest: Manifest) -> torch.Tensor:
    """Copy `state` (any device) into a new flat buffer  # (total_bytes,) uint8, on the CPU."""
    flat = empty_flat(manifest)
    for name, view in views(flat, manifest).items():
        view.copy_(state[name].detach())
    return flat


def pack_parameters(tensors: State, manifest: Manifest) -> torch.Tensor:
    """Copy one tensor for each parameter (any device) into one vector  # (parameter_count,) float32, on the CPU."""
    flat = empty_flat(manifest)
    places = views(flat, manifest)
    for spec in manifest.specs:
        if spec.is_parameter:
            places[spec.name].copy_(tensors[spec.name])
    return parameters_of(flat, manifest)


def parameters_of(flat: torch.Tensor, manifest: Manifest) -> torch.Tensor:
    """Return the parameters of `flat` as one vector  # (parameter_count,) float32, a view."""
    return flat[: manifest.parameter_bytes].view(torch.float32)


def update_from(local: torch.Tensor, base: torch.Tensor, manifest: Manifest) -> torch.Tensor:
    """Return the update a worker sends: `local - base` for parameters, the values themselves for buffers."""
    update = local.clone()
    parameters_of(update, manifest).sub_(parameters_of(base, manifest))
    return update


def applied(
    base: torch.Tensor, step: torch.Tensor, buffers: Mapping[str, torch.Tensor], manifest: Manifest
) -> torch.Tensor:
    """Return a new model (uint8 flat): `base` plus `step`  # (d,) float32, with these BatchNorm statistics."""
    model = base.clone()
    parameters_of(model, manifest).add_(step.cpu())
    tensors = views(model, manifest)
    for name, value in buffers.items():
        tensors[name].copy_(value)
    return model


def bytes_of(flat: torch.Tensor) -> memoryview:
    """Return the buffer's memory as bytes, without copying it; it stays valid while the tensor lives."""
    return flat.numpy().data.cast("B")


def digest_of(flat: torch.Tensor) -> str:
    """Return the SHA-256 (hex) of a flat buffer."""
    return hashlib.sha256(bytes_of(flat)).hexdigest()
