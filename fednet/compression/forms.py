"""The forms a transfer can have, by name: `none`, `zstd`, a rounding, or `ROUNDING+zstd`; and error feedback."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fednet.compression import planes
from fednet.compression.rounding import ROUNDINGS, Rounding
from fednet.errors import BadInput, RemoteProtocolError
from fednet.tensors import Manifest, parameters_of

_LOSSLESS = "zstd"
FEATURES = (*(rounding.name for rounding in ROUNDINGS), _LOSSLESS)
"""What this software can read and write; both ends of a run must."""


@dataclass(frozen=True)
class Form:
    """How a flat buffer travels."""

    rounding: Rounding | None = None
    lossless: bool = False

    @property
    def features(self) -> frozenset[str]:
        """What both ends must be able to do for it."""
        return frozenset(([self.rounding.name] if self.rounding else []) + ([_LOSSLESS] if self.lossless else []))

    def fits(self, nbytes: int, manifest: Manifest) -> bool:
        """Whether the form of a buffer of this layout can have `nbytes` bytes."""
        exact = self._rounded_bytes(manifest)
        return 0 < nbytes <= planes.most_bytes(exact) if self.lossless else nbytes == exact

    def encoded(self, flat: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return what travels  # (n,) uint8 for `flat`  # (total_bytes,) uint8; `flat` itself where nothing is done."""
        data = flat if self.rounding is None else self.rounding.rounded(flat, manifest)
        return planes.packed(data, item_bytes=self._item_bytes) if self.lossless else data

    def decoded(self, data: torch.Tensor, manifest: Manifest) -> torch.Tensor:
        """Return the flat buffer  # (total_bytes,) uint8 that travelled as `data`  # (n,) uint8.

        Raises `RemoteProtocolError` when it is not one of this layout.
        """
        nbytes = self._rounded_bytes(manifest)
        if self.lossless:
            data = planes.unpacked(data, nbytes=nbytes, item_bytes=self._item_bytes)
        if len(data) != nbytes:
            raise RemoteProtocolError(f"transfer has {len(data)} bytes, this layout's have {nbytes}")
        return data if self.rounding is None else self.rounding.restored(data, manifest)

    @property
    def _item_bytes(self) -> int:
        return 4 if self.rounding is None else self.rounding.item_bytes

    def _rounded_bytes(self, manifest: Manifest) -> int:
        return manifest.total_bytes if self.rounding is None else self.rounding.nbytes(manifest)


PLAIN = Form()


def form_named(name: str, *, option: str, may_round: bool = True) -> Form:
    """Return the form called `name`; raises `BadInput` naming the option, and all names."""
    forms = {
        "+".join([*([rounding.name] if rounding else []), *([_LOSSLESS] if lossless else [])]) or "none": Form(
            rounding, lossless
        )
        for rounding in (None, *(ROUNDINGS if may_round else ()))
        for lossless in (False, True)
    }
    if name not in forms:
        raise BadInput(option, found=name, expected=f"one of {', '.join(forms)}")
    return forms[name]


def with_feedback(
    form: Form, update: torch.Tensor, owed: torch.Tensor | None, manifest: Manifest
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (what travels, what rounding lost) of an update to which the loss before, `owed`, was added.

    Error feedback: Seide et al. 2014; Karimireddy et al., "Error Feedback Fixes SignSGD", 2019. `owed` and the loss are
    # (parameter_count,) float32; where the rounded value is not finite nothing is owed.
    """
    due = update.clone()
    wanted = parameters_of(due, manifest)
    if owed is not None:
        wanted += owed
    travels = form.encoded(due, manifest)
    arrives = parameters_of(form.decoded(travels, manifest), manifest)
    return travels, torch.nan_to_num(wanted - arrives, nan=0.0, posinf=0.0, neginf=0.0)
