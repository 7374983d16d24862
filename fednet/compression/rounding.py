"""Rounding of an update's parameters: half precision or 8-bit integers; buffers (BatchNorm, counters) stay exact.

bf16, fp16: each float32 to the nearest (IEEE 754, ties to even). int8: blocks of 1,024 values, none of which crosses a
tensor; a block's scale is max |x| / 127 and each value round(x / scale), as in Dettmers et al., "8-bit Optimizers via
Block-wise Quantization", 2022 (linear, without its dynamic map). All sizes follow from the manifest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from fednet.tensors import Manifest, TensorSpec, empty_flat, parameters_of

BLOCK = 1024  # values that share a scale: 4 bytes for each kilobyte


class Rounding(Protocol):
    """A fixed-size form of an update. A value that is not finite stays so: the coordinator's check must see it."""

    @property
    def name(self) -> str:
        """As in settings and in HELLO's features."""

    @property
    def item_bytes(self) -> int:
        """Bytes of one rounded number: what a byte-plane shuffle goes by."""

    def nbytes(self, manifest: Manifest) -> int:
        """Return how large the form of an update is."""

    def rounded(self, flat: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return the form  # (nbytes,) uint8 of `flat`  # (total_bytes,) uint8."""

    def restored(self, data: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return the flat buffer  # (total_bytes,) uint8 that `data`  # (nbytes,) uint8 stands for."""


@dataclass(frozen=True)
class Half:
    """Two bytes a parameter."""

    name: str
    dtype: torch.dtype
    item_bytes: int = 2

    def nbytes(self, manifest: Manifest) -> int:
        """Return two bytes a parameter, and the buffers."""
        return 2 * manifest.parameter_count + _tail_bytes(manifest)

    def rounded(self, flat: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return the parameters in half precision, then the buffers."""
        values = parameters_of(flat, manifest).to(self.dtype)
        return torch.cat([values.view(torch.uint8), flat[manifest.parameter_bytes :]])

    def restored(self, data: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return the flat buffer; half precision to float32 loses nothing."""
        flat = empty_flat(manifest)
        cut = 2 * manifest.parameter_count
        parameters_of(flat, manifest).copy_(data[:cut].view(self.dtype))
        flat[manifest.parameter_bytes :] = data[cut:]
        return flat


@dataclass(frozen=True)
class Int8:
    """One byte a parameter and four for each block."""

    name: str = "int8"
    item_bytes: int = 1

    def nbytes(self, manifest: Manifest) -> int:
        """Return the size of the scales, the rounded parameters and the buffers."""
        return 4 * _block_count(manifest) + manifest.parameter_count + _tail_bytes(manifest)

    def rounded(self, flat: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return all scales (float32), then all rounded parameters, then the buffers."""
        parameters = parameters_of(flat, manifest)
        scales, values = [], []
        for spec in _trained(manifest):
            blocks = _in_blocks(_of(parameters, spec))
            scale = blocks.abs().amax(dim=1) / 127
            steps = torch.where(scale > 0, scale, 1).unsqueeze(1)
            near = torch.nan_to_num(blocks / steps).round_().clamp_(-127, 127)  # what is not finite is in its scale
            scales.append(scale)
            values.append(near.to(torch.int8).flatten()[: spec.nbytes // 4])
        return torch.cat(
            [torch.cat(scales).view(torch.uint8), torch.cat(values).view(torch.uint8), flat[manifest.parameter_bytes :]]
        )

    def restored(self, data: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return the flat buffer: each value times its block's scale."""
        flat = empty_flat(manifest)
        parameters = parameters_of(flat, manifest)
        scales_end = 4 * _block_count(manifest)
        scales = data[:scales_end].view(torch.float32)
        values = data[scales_end : scales_end + manifest.parameter_count].view(torch.int8)
        for spec in _trained(manifest):
            blocks = _in_blocks(_of(values, spec).to(torch.float32))
            restored = blocks * scales[: len(blocks)].unsqueeze(1)
            _of(parameters, spec).copy_(restored.flatten()[: spec.nbytes // 4])
            scales = scales[len(blocks) :]
        flat[manifest.parameter_bytes :] = data[scales_end + manifest.parameter_count :]
        return flat


ROUNDINGS: tuple[Rounding, ...] = (Half("bf16", torch.bfloat16), Half("fp16", torch.float16), Int8())


def _trained(manifest: Manifest) -> Iterator[TensorSpec]:
    return (spec for spec in manifest.specs if spec.is_parameter and spec.nbytes)


def _of(parameters: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    return parameters[spec.offset // 4 : (spec.offset + spec.nbytes) // 4]


def _in_blocks(values: torch.Tensor) -> torch.Tensor:
    """Return `values`  # (count,) as  # (blocks, BLOCK), the last one filled up with zeros."""
    missing = -len(values) % BLOCK
    return torch.nn.functional.pad(values, (0, missing)).view(-1, BLOCK)


def _block_count(manifest: Manifest) -> int:
    return sum(-(-spec.nbytes // (4 * BLOCK)) for spec in _trained(manifest))


def _tail_bytes(manifest: Manifest) -> int:
    return manifest.total_bytes - manifest.parameter_bytes
